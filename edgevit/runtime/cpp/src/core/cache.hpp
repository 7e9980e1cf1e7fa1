// The user's cache folder, shared with Python: files that only save time, never an error; as edgevit/core/cache_folder.py
// and edgevit/runtime/cache_file.py.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace edgevit::detail {

/// The cache: `named`, or what $EDGEVIT_CACHE names, or `edgevit` in the user's cache folder; nothing where there is no
/// home. A folder that holds somebody else's files gets one of edgevit's own. Nothing is written.
std::optional<std::filesystem::path> find_cache(const std::string& named);

/// The file's content; nothing where there is none that can be read, or it is larger than `most_bytes`.
std::optional<std::string> read_cache(const std::filesystem::path& file, size_t most_bytes);

/// Replaces `root / folder / name` in one step, and deletes the oldest files of `folder` beyond `most_files` whose names
/// `is_own` says are of its kind. False where it cannot be written.
bool write_cache(const std::filesystem::path& root, const std::filesystem::path& folder, const std::string& name,
                 const std::string& content, size_t most_files, bool (*is_own)(const std::string&));

/// `canary/{64 hex digits}.json`
bool is_canary_name(const std::string& name);

}  // namespace edgevit::detail
