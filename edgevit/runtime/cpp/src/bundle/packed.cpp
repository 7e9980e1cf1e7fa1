// A bundle that is one file: a zip in which every file lies as it is, so that it can be mapped. Its central directory
// counts only where every local header agrees, and files overlap neither each other nor it. docs/bundle.md has the
// form.
#include <algorithm>
#include <cstring>
#include <map>

#include "bundle/files.hpp"
#include "bundle/little_endian.hpp"
#include "bundle/problems.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

constexpr uint64_t kMostBytes = UINT32_MAX;
constexpr size_t kLocalSize = 30;
constexpr size_t kCentralSize = 46;
constexpr size_t kEndSize = 22;
constexpr uint32_t kLocalMark = 0x04034b50;
constexpr uint32_t kCentralMark = 0x02014b50;
constexpr uint32_t kEndMark = 0x06054b50;
constexpr uint16_t kUtf8Flag = 1 << 11;
constexpr const char* kCopy = "copy it again, or pack the bundle again";

[[noreturn]] void refuse(const std::string& message) { throw Failure(EDGEVIT_UNSAFE, message, kCopy); }

struct Entry {
  uint64_t header;
  uint64_t begin;
  uint64_t size;
};

class Packed final : public Source {
 public:
  Packed(std::shared_ptr<const Descriptor> file, std::map<std::string, Entry> entries)
      : file_(std::move(file)), entries_(std::move(entries)) {}

  Found find(const std::string& name) const override {
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) return {Found::State::missing, {}, {}};
    return {Found::State::here, FilePart(file_, entry->second.begin, entry->second.size), {}};
  }

  bool has(const std::string& name) const override { return entries_.count(name) > 0; }

  std::vector<std::string> list_names() const override {
    std::vector<std::string> names;
    for (const auto& entry : entries_) names.push_back(entry.first);
    return names;
  }

  bool packed() const noexcept override { return true; }

 private:
  std::shared_ptr<const Descriptor> file_;
  std::map<std::string, Entry> entries_;
};

/// The lines of the central directory, one after the other.
class Directory {
 public:
  Directory(const std::string& path, const FilePart& file, uint64_t begin, uint64_t end)
      : path_(path), file_(file), begin_(begin), place_(begin), end_(end) {}

  uint64_t place() const noexcept { return place_; }

  std::pair<std::string, Entry> read_entry() {
    uint8_t line[kCentralSize];
    if (place_ + kCentralSize > end_) refuse(path_ + " has a directory that is not one");
    file_.read(place_, line, sizeof line);
    if (read_u32(line) != kCentralMark) refuse(path_ + " has a directory that is not one");
    const uint16_t length = read_u16(line + 28);
    if (place_ + kCentralSize + length > end_) refuse(path_ + " has a name that does not end");
    const std::string name = read_name(place_ + kCentralSize, length);
    place_ += kCentralSize + length;
    check_line(line, name);
    return {name, find_content(line, name)};
  }

 private:
  std::string read_name(uint64_t at, uint16_t length) const {
    std::string name(length, '\0');
    file_.read(at, reinterpret_cast<uint8_t*>(name.data()), length);
    return name;
  }

  void check_line(const uint8_t* line, const std::string& name) const {
    const std::string where = path_ + ": " + show_name(name);
    if (split_name(name).empty() || !is_utf8(name)) refuse(where + " is no plain name of a file");
    const uint32_t attributes = read_u32(line + 38);
    const uint32_t kind = attributes >> 28;  // of Unix, a regular file's is 8; some writers leave it out
    if ((kind != 0 && kind != 8) || (attributes & 0x10) != 0)
      refuse(where + " is a link, a folder or a device, not a file");
    if (read_u16(line + 10) != 0 || read_u32(line + 20) != read_u32(line + 24) ||
        (read_u16(line + 8) & ~kUtf8Flag) != 0) {
      refuse(where + " is compressed or encrypted, or described after its end");
    }
    // further fields, a comment, another disk
    if (read_u16(line + 30) != 0 || read_u16(line + 32) != 0 || read_u16(line + 34) != 0) {
      refuse(where + " has a comment or further fields in the directory");
    }
  }

  Entry find_content(const uint8_t* line, const std::string& name) const {
    const std::string where = path_ + ": " + show_name(name);
    const uint64_t header = read_u32(line + 42);
    const uint64_t size = read_u32(line + 24);
    uint8_t local[kLocalSize];
    if (header + kLocalSize > begin_) refuse(where + " lies outside of the files");
    file_.read(header, local, sizeof local);
    const uint64_t named = header + kLocalSize;
    const bool alike = read_u32(local) == kLocalMark && std::memcmp(local + 6, line + 8, 4) == 0 &&  // flags, method
                       std::memcmp(local + 14, line + 16, 14) == 0;  // checksum, both sizes, the name's length
    if (!alike || named + name.size() > begin_ || read_name(named, static_cast<uint16_t>(name.size())) != name) {
      refuse(where + " is described in two ways that differ");
    }
    const uint64_t begin = named + name.size() + read_u16(local + 28);
    if (begin + size > begin_) refuse(where + " lies outside of the files");
    return {header, begin, size};
  }

  const std::string& path_;
  const FilePart& file_;
  uint64_t begin_;
  uint64_t place_;
  uint64_t end_;
};

void refuse_overlaps(const std::string& path, const std::map<std::string, Entry>& entries) {
  std::vector<std::pair<uint64_t, uint64_t>> spans;
  for (const auto& [name, entry] : entries) {
    spans.emplace_back(entry.header, entry.begin + entry.size);
    for (size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
      if (entries.count(name.substr(0, slash)) > 0)
        refuse(path + ": " + show_name(name) + " lies below what is itself a file");
    }
  }
  std::sort(spans.begin(), spans.end());
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first < spans[i - 1].second) refuse(path + " has files that overlap");
  }
}

}  // namespace

std::unique_ptr<Source> open_packed(const std::string& path, std::shared_ptr<const Descriptor> file, uint64_t size) {
  const FilePart whole(file, 0, size);
  uint8_t mark[4] = {};
  if (size >= sizeof mark) whole.read(0, mark, sizeof mark);
  if (read_u32(mark) != kLocalMark) {
    throw Failure(EDGEVIT_NOT_A_BUNDLE, path + " is neither a bundle's folder nor a packed bundle",
                  "give the folder that edgevit build wrote, or a file that edgevit pack made of it (NAME.edgevit)");
  }
  if (size > kMostBytes) {
    throw Failure(EDGEVIT_UNSAFE,
                  path + " has " + std::to_string(size) + " bytes, and a packed bundle " + std::to_string(kMostBytes) +
                      " at most",
                  "ship the folder");
  }
  uint8_t tail[kEndSize] = {};
  if (size >= kEndSize) whole.read(size - kEndSize, tail, sizeof tail);
  if (read_u32(tail) != kEndMark) {
    throw Failure(EDGEVIT_DAMAGED, path + " is cut short, or something was added at its end", kCopy);
  }
  const uint64_t end = size - kEndSize;
  const uint64_t begin = read_u32(tail + 16);
  const uint16_t count = read_u16(tail + 10);
  const bool parts = read_u16(tail + 4) != 0 || read_u16(tail + 6) != 0 || read_u16(tail + 8) != count;
  if (parts || read_u16(tail + 20) != 0) refuse(path + " is a zip of several parts or with a comment");
  if (count > kMostFiles) refuse(path + " lists " + std::to_string(count) + " files, and 64 are the most");
  if (begin + read_u32(tail + 12) != end) refuse(path + " has a directory that is not where its end says");
  Directory directory(path, whole, begin, end);
  std::map<std::string, Entry> entries;
  for (uint16_t i = 0; i < count; ++i) {
    auto entry = directory.read_entry();
    if (!entries.insert(entry).second) refuse(path + " has two files called " + show_name(entry.first));
  }
  if (directory.place() != end) refuse(path + " lists more or fewer files than it says");
  refuse_overlaps(path, entries);
  return std::make_unique<Packed>(std::move(file), std::move(entries));
}

}  // namespace edgevit::detail
