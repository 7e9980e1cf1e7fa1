#include "bundle/npz.hpp"

#include <charconv>

#include "bundle/digest.hpp"
#include "bundle/little_endian.hpp"
#include "bundle/problems.hpp"

namespace edgevit::detail {

namespace {

constexpr size_t kMostFiles = 1000;

const uint8_t* bytes(std::string_view data) { return reinterpret_cast<const uint8_t*>(data.data()); }

/// Of a part that has to lie within the data.
const uint8_t* look(std::string_view data, uint64_t at, uint64_t size) {
  if (at > data.size() || size > data.size() - at) throw NpzError("it is cut short, or no zip");
  return bytes(data) + at;
}

/// The content of a file, from its line in the directory. Sizes in the local header count for nothing: numpy leaves
/// them to a field behind it.
std::string_view find_content(std::string_view data, const uint8_t* line, std::string_view name) {
  const uint64_t header = read_u32(line + 42);
  const uint32_t size = read_u32(line + 24);
  const uint8_t* local = look(data, header, 30);
  const uint16_t length = read_u16(local + 26);
  const auto own_name = data.substr(static_cast<size_t>(header) + 30, length);
  if (read_u32(local) != 0x04034b50 || own_name != name) throw NpzError(show_name(name) + " is described in two ways");
  const uint64_t begin = header + 30 + length + read_u16(local + 28);
  const uint8_t* content = look(data, begin, size);
  if (add_crc32(0, content, size) != read_u32(line + 16))
    throw NpzError(show_name(name) + " has another checksum than it says");
  return data.substr(static_cast<size_t>(begin), size);
}

/// Reads the text of a header, which is a dictionary of Python's.
class Header {
 public:
  explicit Header(std::string_view text) : rest_(text) {}

  Npy read() {
    Npy array;
    bool descr = false;
    bool order = false;
    bool shape = false;
    expect('{');
    while (!take('}')) {
      const std::string_view key = read_text();
      expect(':');
      if (key == "descr" && !descr) {
        array.descr = read_text();
        descr = true;
      } else if (key == "fortran_order" && !order) {
        array.fortran = read_truth();
        order = true;
      } else if (key == "shape" && !shape) {
        array.shape = read_shape();
        shape = true;
      } else {
        fail();
      }
      if (take(',')) continue;
      expect('}');
      break;
    }
    skip();
    if (!rest_.empty() || !descr || !order || !shape) fail();
    return array;
  }

 private:
  [[noreturn]] static void fail() { throw NpzError("it has an array whose header is not numpy's"); }

  void skip() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
  }

  bool take(char letter) {
    skip();
    if (rest_.empty() || rest_.front() != letter) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char letter) {
    if (!take(letter)) fail();
  }

  std::string_view read_text() {
    expect('\'');
    const size_t end = rest_.find('\'');
    if (end == std::string_view::npos) fail();
    const std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }

  bool read_truth() {
    skip();
    for (const std::string_view word : {"True", "False"}) {
      if (rest_.substr(0, word.size()) != word) continue;
      rest_.remove_prefix(word.size());
      return word == "True";
    }
    fail();
  }

  std::vector<int64_t> read_shape() {
    std::vector<int64_t> shape;
    bool comma = true;
    expect('(');
    while (!take(')')) {
      int64_t side = 0;
      const auto read = std::from_chars(rest_.data(), rest_.data() + rest_.size(), side);
      if (!comma || read.ec != std::errc() || side < 0) fail();
      rest_.remove_prefix(static_cast<size_t>(read.ptr - rest_.data()));
      shape.push_back(side);
      comma = take(',');
    }
    if (shape.size() == 1 && !comma) fail();  // a number in parentheses
    return shape;
  }

  std::string_view rest_;
};

}  // namespace

std::map<std::string, std::string_view> list_stored(std::string_view data) {
  if (data.size() < 22) throw NpzError("it is cut short, or no zip");
  const uint64_t end = data.size() - 22;
  const uint8_t* tail = look(data, end, 22);
  const uint64_t begin = read_u32(tail + 16);
  const uint16_t count = read_u16(tail + 10);
  if (read_u32(tail) != 0x06054b50 || read_u16(tail + 20) != 0 || begin + read_u32(tail + 12) != end ||
      count > kMostFiles) {
    throw NpzError("it is cut short, or no zip");
  }
  std::map<std::string, std::string_view> files;
  uint64_t place = begin;
  for (uint16_t i = 0; i < count; ++i) {
    const uint8_t* line = look(data, place, 46);
    const uint16_t length = read_u16(line + 28);
    look(data, place, uint64_t{46} + length);
    const std::string_view name = data.substr(static_cast<size_t>(place) + 46, length);
    place += uint64_t{46} + length + read_u16(line + 30) + read_u16(line + 32);
    if (read_u32(line) != 0x02014b50) throw NpzError("it has a directory that is not one");
    if (read_u16(line + 10) != 0 || read_u32(line + 20) != read_u32(line + 24) ||
        (read_u16(line + 8) & ~(1 << 11)) != 0) {
      throw NpzError(show_name(name) + " is compressed");
    }
    const bool added = files.emplace(std::string(name), find_content(data, line, name)).second;
    if (!added) throw NpzError("it has two arrays called " + show_name(name));
  }
  if (place != end) throw NpzError("it lists more or fewer arrays than it says");
  return files;
}

Npy parse_npy(std::string_view data) {
  constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);
  if (data.substr(0, 8) != kMagic || data.size() < 10) throw NpzError("it has an array that is not of version (1, 0)");
  const uint16_t length = read_u16(bytes(data) + 8);
  if (length > data.size() - 10) throw NpzError("it has an array that is cut short");
  Npy array = Header(data.substr(10, length)).read();
  array.content = data.substr(size_t{10} + length);
  return array;
}

}  // namespace edgevit::detail
