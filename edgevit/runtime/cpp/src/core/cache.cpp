#include "core/cache.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#if !defined(_WIN32)
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace edgevit::detail {
namespace {

namespace fs = std::filesystem;

constexpr const char* mark_file = ".edgevit-cache";
constexpr const char* own_folder = "edgevit-cache";
constexpr const char* mark_text =
    "This is a cache of edgevit, which removes from it what it made itself. You may delete what it made.\n";
constexpr auto abandoned = std::chrono::hours(24);

/// Everything that lies in a cache, beside its mark: CONTENTS of edgevit/core/cache_folder.py.
constexpr std::string_view contents[] = {"export",    "optimize", "half_range", "reference", "quantize",
                                         "set_back",  "typed",    "rehearsal",  "engine",    "portable",
                                         "fp8",       "canary",   "compiled",   "tensorrt",  "tensorrt_rtx",
                                         "device"};

bool holds_others(const fs::path& folder) {
  std::error_code failed;
  if (fs::is_regular_file(folder / mark_file, failed)) return false;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    if (std::find(std::begin(contents), std::end(contents), name) == std::end(contents)) return true;
  }
  return false;
}

std::string find_home() {
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return home;
#if !defined(_WIN32)
  const passwd* user = getpwuid(getuid());
  if (user != nullptr && user->pw_dir != nullptr) return user->pw_dir;
#endif
  return "";
}

std::string draw_hex(int digits) {
  std::random_device source;
  std::string text;
  for (int i = 0; i < digits; ++i) text += "0123456789abcdef"[source() & 15U];
  return text;
}

void claim(const fs::path& root) {
  fs::create_directories(root);
#if !defined(_WIN32)
  std::FILE* mark = std::fopen((root / mark_file).c_str(), "wx");  // where there is one already, it stays
#else
  std::FILE* mark = std::fopen((root / mark_file).string().c_str(), "wx");
#endif
  if (mark == nullptr) return;
  std::fputs(mark_text, mark);
  std::fclose(mark);
}

bool is_behind_link(const fs::path& root, fs::path path) {
  for (; path != root && !path.empty() && path != path.root_path(); path = path.parent_path()) {
    if (fs::is_symlink(fs::symlink_status(path))) return true;
  }
  return false;
}

/// Of `.NAME.{hex}`, the name of a file that is being written; empty of any other.
std::string name_whole(const std::string& name) {
  const size_t dot = name.rfind('.');
  const bool partial = name.size() > 2 && name[0] == '.' && dot > 1 && dot + 1 < name.size() &&
                       name.find_first_not_of("0123456789abcdef", dot + 1) == std::string::npos;
  return partial ? name.substr(1, dot - 1) : "";
}

/// Removes files with names that the cache makes, and nothing else; another process may be at the same.
void make_room(const fs::path& folder, const CacheRules& rules) {
  struct Kept {
    fs::file_time_type written;
    uintmax_t size;
    fs::path path;
  };
  std::vector<Kept> whole;
  std::error_code failed;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed)) {
    std::error_code gone;
    const std::string name = entry->path().filename().string();
    if (!fs::is_regular_file(entry->symlink_status(gone)) || gone) continue;
    const auto written = entry->last_write_time(gone);
    const uintmax_t size = gone ? 0 : entry->file_size(gone);
    if (gone) continue;
    if (rules.is_own(name)) whole.push_back({written, size, entry->path()});
    const bool old = fs::file_time_type::clock::now() - written > abandoned;
    if (old && rules.is_own(name_whole(name))) fs::remove(entry->path(), gone);
  }
  std::sort(whole.begin(), whole.end(), [](const Kept& a, const Kept& b) { return a.written > b.written; });
  uintmax_t total = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    total += whole[i].size;
    const bool much = rules.most_bytes && i > 0 && total > *rules.most_bytes;
    if (i >= rules.most_files || much) fs::remove(whole[i].path, failed);
  }
}

/// Writes a new file; others may read it unless only the owner may.
bool write_new(const fs::path& path, const std::vector<std::string_view>& content, bool only_owner) {
#if !defined(_WIN32)
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, only_owner ? 0600 : 0666);
  std::FILE* stream = file >= 0 ? fdopen(file, "wb") : nullptr;
  if (stream == nullptr && file >= 0) ::close(file);
#else
  static_cast<void>(only_owner);
  std::FILE* stream = std::fopen(path.string().c_str(), "wbx");
#endif
  if (stream == nullptr) return false;
  bool whole = true;
  for (const std::string_view part : content) {
    whole = whole && std::fwrite(part.data(), 1, part.size(), stream) == part.size();
  }
  return std::fclose(stream) == 0 && whole;
}

void make_folder(const fs::path& folder, bool only_owner) {
#if !defined(_WIN32)
  fs::create_directories(folder.parent_path());
  if (only_owner && mkdir(folder.c_str(), 0700) == 0) return;
#else
  static_cast<void>(only_owner);
#endif
  fs::create_directories(folder);
}

}  // namespace

std::optional<fs::path> find_cache(const std::string& named) {
  const char* variable = std::getenv("EDGEVIT_CACHE");
  std::string name = !named.empty() ? named : variable != nullptr ? variable : "";
  if (!name.empty()) {
    if (name == "~" || name.rfind("~/", 0) == 0) name = find_home() + name.substr(1);
    fs::path folder(name);
    while (holds_others(folder)) folder /= own_folder;
    return folder;
  }
  const char* given = std::getenv("XDG_CACHE_HOME");
  fs::path base(given != nullptr ? given : "");
  if (!base.is_absolute()) {  // one that is not is to be ignored: XDG Base Directory Specification
    const fs::path home(find_home());
    if (!home.is_absolute()) return std::nullopt;
    base = home / ".cache";
  }
  return base / "edgevit";
}

std::optional<std::string> read_cache(const fs::path& file, size_t most_bytes) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return std::nullopt;
  std::string content(most_bytes + 1, '\0');
  stream.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(stream.gcount()));
  if (content.empty() || content.size() > most_bytes) return std::nullopt;
  return content;
}

bool write_cache(const fs::path& root, const fs::path& folder, const std::string& name,
                 const std::vector<std::string_view>& content, const CacheRules& rules) {
  const fs::path path = root / folder / name;
  const fs::path partial = path.parent_path() / ("." + name + "." + draw_hex(8));
  try {
    claim(root);
    make_folder(path.parent_path(), rules.only_owner);
    if (!write_new(partial, content, rules.only_owner)) {
      throw fs::filesystem_error("not written", partial, std::make_error_code(std::errc::io_error));
    }
    fs::rename(partial, path);
    if (!is_behind_link(root, path.parent_path())) make_room(path.parent_path(), rules);
  } catch (const fs::filesystem_error&) {
    std::error_code gone;
    fs::remove(partial, gone);
    return false;
  }
  return true;
}

bool is_canary_name(const std::string& name) {
  return name.size() == 69 && name.find_first_not_of("0123456789abcdef") == 64 && name.compare(64, 5, ".json") == 0;
}

}  // namespace edgevit::detail
