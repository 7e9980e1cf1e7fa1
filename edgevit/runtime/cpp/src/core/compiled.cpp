#include "core/compiled.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "bundle/digest.hpp"
#include "core/cache.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define EDGEVIT_HAS_OWNERS 1
#endif

namespace edgevit::detail {
namespace {

namespace fs = std::filesystem;

constexpr size_t header_bytes = 4096;  // a page, so that what follows lies in memory as it does in the file
constexpr uint64_t most_bytes = uint64_t{1} << 30;
constexpr size_t most_files = 64;

bool is_blob_name(const std::string& name) {
  return name.size() == 69 && name.find_first_not_of("0123456789abcdef") == 64 && name.compare(64, 5, ".blob") == 0;
}

std::string write_header(const std::string& key, const void* content, size_t size) {
  Sha256 hash;
  hash.add(content, size);
  std::string text = key + "content " + hash.finish() + " " + std::to_string(size) + "\n";
  text.resize(std::max(text.size(), header_bytes), '\0');
  return text;
}

#if defined(EDGEVIT_HAS_OWNERS)

class Mapping : public Bytes {
 public:
  Mapping(void* begin, size_t whole) : begin_(begin), whole_(whole) {}
  ~Mapping() override { munmap(begin_, whole_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  const uint8_t* data() const noexcept override { return static_cast<const uint8_t*>(begin_) + header_bytes; }
  size_t size() const noexcept override { return whole_ - header_bytes; }
  const void* header() const noexcept { return begin_; }

 private:
  void* begin_;
  size_t whole_;
};

/// Whether this user made it, and nobody else may write to it.
bool is_private(const struct stat& found) {
  return found.st_uid == geteuid() && (found.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool is_own_folder(const fs::path& folder) {
  struct stat found {};
  return lstat(folder.c_str(), &found) == 0 && S_ISDIR(found.st_mode) && is_private(found);
}

#endif

std::optional<fs::path> find_root(const std::string& cache_folder) {
#if defined(EDGEVIT_HAS_OWNERS)
  return find_cache(cache_folder);
#else
  static_cast<void>(cache_folder);
  return std::nullopt;
#endif
}

std::string name_file(const std::string& key) { return hash_text(key) + ".blob"; }

}  // namespace

std::optional<std::string> write_key(const CompiledKey& key) {
  if (!key.processor || !key.instruction_set) return std::nullopt;
  std::vector<std::string> lines{"edgevit compiled 1",
                                 "backend " + key.backend,
                                 "version " + key.version,
                                 "device " + key.device,
                                 "processor " + *key.processor,
                                 "instruction_set " + *key.instruction_set};
  for (const auto& [name, digest] : key.files) lines.push_back("file " + name + " " + digest);
  for (const auto& [name, value] : key.properties) lines.push_back("property " + name + " " + value);
  std::string text;
  for (const std::string& line : lines) {
    // Python keeps what is printable beyond ASCII too; such a bundle is compiled at each start here
    const bool plain = std::all_of(line.begin(), line.end(), [](char letter) { return letter >= ' ' && letter <= '~'; });
    if (!plain) return std::nullopt;
    text += line + "\n";
  }
  return text;
}

std::shared_ptr<const Bytes> read_compiled(const std::string& cache_folder, const std::string& key) {
#if defined(EDGEVIT_HAS_OWNERS)
  const auto root = find_root(cache_folder);
  if (!root || !is_own_folder(*root / "compiled")) return nullptr;
  const fs::path path = *root / "compiled" / name_file(key);
  const int file = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return nullptr;
  std::shared_ptr<Mapping> mapping;
  struct stat found {};
  if (fstat(file, &found) == 0 && S_ISREG(found.st_mode) && is_private(found) &&
      found.st_size > static_cast<off_t>(header_bytes)) {
    // private to the process: what it would write into the pages reaches no file
    const auto size = static_cast<size_t>(found.st_size);
    void* begin = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (begin != MAP_FAILED) mapping = std::make_shared<Mapping>(begin, size);
  }
  ::close(file);
  if (mapping == nullptr) return nullptr;
  const std::string wanted = write_header(key, mapping->data(), mapping->size());
  if (wanted.size() != header_bytes || std::memcmp(wanted.data(), mapping->header(), header_bytes) != 0) return nullptr;
  utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);  // what is used stays longest
  return mapping;
#else
  static_cast<void>(cache_folder), static_cast<void>(key);
  return nullptr;
#endif
}

bool can_keep(const std::string& cache_folder, const std::string& key, uint64_t engine_bytes) {
#if defined(EDGEVIT_HAS_OWNERS)
  const auto root = find_root(cache_folder);
  if (!root || engine_bytes > most_bytes || key.size() > header_bytes / 2) return false;
  struct stat found {};
  return lstat((*root / "compiled").c_str(), &found) != 0 || is_own_folder(*root / "compiled");
#else
  static_cast<void>(cache_folder), static_cast<void>(key), static_cast<void>(engine_bytes);
  return false;
#endif
}

void write_compiled(const std::string& cache_folder, const std::string& key, const std::string& content) {
  const auto root = find_root(cache_folder);
  const std::string header = write_header(key, content.data(), content.size());
  if (!root || header.size() != header_bytes) return;
  CacheRules rules;
  rules.most_files = most_files;
  rules.most_bytes = most_bytes;
  rules.is_own = is_blob_name;
  rules.only_owner = true;
  write_cache(*root, "compiled", name_file(key), {header, content}, rules);
}

}  // namespace edgevit::detail
