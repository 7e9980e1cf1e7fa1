// The user's cache folder, shared with Python: files that only save time, never an error; as edgevit/core/cache_folder.py
// and edgevit/runtime/cache_file.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace edgevit::detail {

/// The cache: `named`, or what $EDGEVIT_CACHE names, or `edgevit` in the user's cache folder; nothing where there is no
/// home. A folder that holds somebody else's files gets one of edgevit's own. Nothing is written.
std::optional<std::filesystem::path> find_cache(const std::string& named);

/// The file's content; nothing where there is none that can be read, or it is larger than `most_bytes`.
std::optional<std::string> read_cache(const std::filesystem::path& file, size_t most_bytes);

/// What a folder of the cache keeps.
struct CacheRules {
  size_t most_files = 0;
  std::optional<uint64_t> most_bytes;          // of all files together, but the newest stays in any case
  bool (*is_own)(const std::string&) = nullptr;  // whether a name is one that the cache makes there
  bool only_owner = false;                     // nobody else may read or write them
};

/// Replaces `root / folder / name` in one step, and deletes the oldest files of `folder` beyond what may be kept. False
/// where it cannot be written.
bool write_cache(const std::filesystem::path& root, const std::filesystem::path& folder, const std::string& name,
                 const std::vector<std::string_view>& content, const CacheRules& rules);

/// `canary/{64 hex digits}.json`
bool is_canary_name(const std::string& name);

}  // namespace edgevit::detail
