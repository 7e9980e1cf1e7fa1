#include "bundle/files.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bundle/digest.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

constexpr size_t kBlock = size_t{1} << 20;

int open_at(int folder, const char* name, int flags) {
  int number;
  do {
    number = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | flags);
  } while (number < 0 && errno == EINTR);
  return number;
}

class Mapping final : public Bytes {
 public:
  Mapping(void* base, size_t length, size_t skip) : base_(base), length_(length), skip_(skip) {}
  ~Mapping() override {
    if (base_ != nullptr) munmap(base_, length_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  const uint8_t* data() const noexcept override { return static_cast<const uint8_t*>(base_) + skip_; }
  size_t size() const noexcept override { return length_ - skip_; }

 private:
  void* base_;
  size_t length_;
  size_t skip_;
};

class Nothing final : public Bytes {
 public:
  const uint8_t* data() const noexcept override { return &byte_; }
  size_t size() const noexcept override { return 0; }

 private:
  uint8_t byte_ = 0;
};

class Folder final : public Source {
 public:
  explicit Folder(std::shared_ptr<const Descriptor> folder) : folder_(std::move(folder)) {}

  Found find(const std::string& name) const override {
    const std::vector<std::string> parts = split_name(name);
    if (parts.empty()) return {Found::State::irregular, {}, {}};
    std::shared_ptr<const Descriptor> folder = open_folder(parts);
    if (!folder) return explain(parts);
    struct stat status{};
    if (fstatat(folder->number(), parts.back().c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return explain(parts);
    if (!S_ISREG(status.st_mode)) return {Found::State::irregular, {}, {}};
    // whatever took its place meanwhile is not followed, and a pipe is not waited for
    const int number = open_at(folder->number(), parts.back().c_str(), O_NOFOLLOW | O_NONBLOCK);
    if (number < 0) return explain(parts);
    auto file = std::make_shared<const Descriptor>(number);
    if (fstat(number, &status) != 0) return {Found::State::unreadable, {}, std::strerror(errno)};
    if (!S_ISREG(status.st_mode)) return {Found::State::irregular, {}, {}};
    return {Found::State::here, FilePart(std::move(file), 0, static_cast<uint64_t>(status.st_size)), {}};
  }

  bool has(const std::string& name) const override {
    const std::vector<std::string> parts = split_name(name);
    const auto folder = parts.empty() ? nullptr : open_folder(parts);
    struct stat status{};
    return folder && fstatat(folder->number(), parts.back().c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
  }

  std::vector<std::string> list_names() const override { return {}; }

  bool packed() const noexcept override { return false; }

 private:
  /// The folder that the last part lies in; nothing, and `errno`, where a part between is no folder of the bundle's
  /// own.
  std::shared_ptr<const Descriptor> open_folder(const std::vector<std::string>& parts) const {
    std::shared_ptr<const Descriptor> folder = folder_;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const int number = open_at(folder->number(), parts[i].c_str(), O_NOFOLLOW | O_DIRECTORY);
      if (number < 0) return nullptr;
      folder = std::make_shared<const Descriptor>(number);
    }
    return folder;
  }

  Found explain(const std::vector<std::string>& parts) const {
    const int error = errno;
    if (error == ELOOP) return {Found::State::irregular, {}, {}};
    if (error == ENOENT) return {Found::State::missing, {}, {}};
    if (error != ENOTDIR) return {Found::State::unreadable, {}, std::strerror(error)};
    // O_DIRECTORY says the same of a link as of a file: the first of the parts between that is no folder tells
    std::shared_ptr<const Descriptor> folder = folder_;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      struct stat status{};
      if (fstatat(folder->number(), parts[i].c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) break;
      if (S_ISLNK(status.st_mode)) return {Found::State::irregular, {}, {}};
      const int number = open_at(folder->number(), parts[i].c_str(), O_NOFOLLOW | O_DIRECTORY);
      if (number < 0) break;
      folder = std::make_shared<const Descriptor>(number);
    }
    return {Found::State::missing, {}, {}};
  }

  std::shared_ptr<const Descriptor> folder_;
};

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

void FilePart::read(uint64_t at, uint8_t* out, size_t count) const {
  if (at > size_ || count > size_ - at)
    throw Failure(EDGEVIT_DAMAGED, "a file of the bundle ends too early", "copy the bundle again");
  while (count > 0) {
    const ssize_t got = pread(file_->number(), out, count, static_cast<off_t>(offset_ + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const std::string reason = got < 0 ? std::strerror(errno) : "it has become shorter";
      throw Failure(EDGEVIT_DAMAGED, "a file of the bundle cannot be read: " + reason, "copy the bundle again");
    }
    out += got;
    at += static_cast<uint64_t>(got);
    count -= static_cast<size_t>(got);
  }
}

std::string FilePart::read_text(uint64_t most) const {
  std::string text(static_cast<size_t>(size_ < most ? size_ : most), '\0');
  read(0, reinterpret_cast<uint8_t*>(text.data()), text.size());
  return text;
}

template <typename Take>
void FilePart::read_blocks(Take take) const {
  std::vector<uint8_t> block(static_cast<size_t>(size_ < kBlock ? size_ : kBlock));
  for (uint64_t at = 0; at < size_;) {
    const auto count = static_cast<size_t>(size_ - at < kBlock ? size_ - at : kBlock);
    read(at, block.data(), count);
    take(block.data(), count);
    at += count;
  }
}

std::string FilePart::hash() const {
  Sha256 digest;
  read_blocks([&](const uint8_t* data, size_t size) { digest.add(data, size); });
  return digest.finish();
}

std::shared_ptr<const Bytes> FilePart::map() const {
  if (size_ == 0) return std::make_shared<const Nothing>();
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto skip = static_cast<size_t>(offset_ % page);
  if (size_ > SIZE_MAX - skip)
    throw Failure(EDGEVIT_ERROR, "a file of the bundle is too large for this system", "take a 64-bit system");
  const size_t length = static_cast<size_t>(size_) + skip;
  void* base = mmap(nullptr, length, PROT_READ, MAP_PRIVATE, file_->number(), static_cast<off_t>(offset_ - skip));
  if (base == MAP_FAILED) {
    throw Failure(EDGEVIT_ERROR, std::string("a file of the bundle cannot be mapped: ") + std::strerror(errno),
                  "free some memory, or copy the bundle to another file system");
  }
  return std::make_shared<const Mapping>(base, length, skip);
}

std::vector<std::string> split_name(const std::string& name) {
  constexpr char kForbidden[] = "\\:\"<>|?*";
  std::vector<std::string> parts;
  if (name.find('\0') != std::string::npos || name.find_first_of(kForbidden) != std::string::npos) return {};
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    if (parts.back().empty() || parts.back() == "." || parts.back() == "..") return {};
    begin = end + 1;
  }
  return parts;
}

std::unique_ptr<Source> open_source(const std::string& path) {
  constexpr const char* kHint = "give the folder or the .edgevit file that edgevit made";
  if (path.empty() || path.find('\0') != std::string::npos) {
    throw Failure(EDGEVIT_ARGUMENT, "the bundle's path is empty or has a zero byte in it", kHint);
  }
  const int number = open_at(AT_FDCWD, path.c_str(), O_NONBLOCK);
  if (number < 0) {
    const bool absent = errno == ENOENT || errno == ENOTDIR;
    const std::string reason = absent ? " is not there" : std::string(" cannot be read: ") + std::strerror(errno);
    throw Failure(EDGEVIT_NOT_A_BUNDLE, path + reason, kHint);
  }
  auto opened = std::make_shared<const Descriptor>(number);
  struct stat status{};
  if (fstat(number, &status) == 0 && S_ISDIR(status.st_mode)) return std::make_unique<Folder>(std::move(opened));
  if (!S_ISREG(status.st_mode)) throw Failure(EDGEVIT_NOT_A_BUNDLE, path + " is neither a folder nor a file", kHint);
  return open_packed(path, std::move(opened), static_cast<uint64_t>(status.st_size));
}

}  // namespace edgevit::detail
