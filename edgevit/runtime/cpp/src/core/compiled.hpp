// What an engine library compiled, kept in the user's cache; as edgevit/runtime/compiled_file.py, whose files it shares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bundle/bundle.hpp"

namespace edgevit::detail {

/// Everything that what is compiled depends on.
struct CompiledKey {
  std::string backend, version, device;
  std::optional<std::string> processor, instruction_set;
  std::vector<std::pair<std::string, std::string>> files;  // name and SHA-256, in the engine's order
  std::map<std::string, std::string> properties;
};

/// Text of one fact a line; nothing where the machine does not tell what it is, or a value would break a line.
std::optional<std::string> write_key(const CompiledKey& key);

/// What was compiled for this key, mapped. Null where there is none, and where the file is another's, damaged or of
/// another key.
std::shared_ptr<const Bytes> read_compiled(const std::string& cache_folder, const std::string& key);

/// Whether a file for an engine of so many bytes would be kept.
bool can_keep(const std::string& cache_folder, const std::string& key, uint64_t engine_bytes);

/// Keeps it; what cannot be written is none of the caller's trouble.
void write_compiled(const std::string& cache_folder, const std::string& key, const std::string& content);

}  // namespace edgevit::detail
