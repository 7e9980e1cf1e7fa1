// Problems: everything that is wrong with something, of which a message lists the first ten.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bundle/little_endian.hpp"

namespace edgevit::detail {

class Problems {
 public:
  void add(std::string problem) {
    if (++count_ <= kListed) listed_.push_back(std::move(problem));
  }
  void add_if(bool broken, std::string problem) {
    if (broken) add(std::move(problem));
  }

  bool empty() const noexcept { return count_ == 0; }
  size_t count() const noexcept { return count_; }
  const std::string& first() const { return listed_.front(); }

  /// One a line, indented; the rest is counted.
  std::string list() const {
    std::string text;
    for (const std::string& problem : listed_) text += (text.empty() ? "  " : "\n  ") + problem;
    if (count_ > kListed) text += "\n  … and " + std::to_string(count_ - kListed) + " more";
    return text;
  }

 private:
  static constexpr size_t kListed = 10;

  std::vector<std::string> listed_;
  size_t count_ = 0;
};

/// A name from somewhere, short enough for a message, in UTF-8, and without what a terminal would take for a command.
inline std::string show_name(std::string_view name, size_t most = 100) {
  std::string text(name.substr(0, most));
  while (text.size() < name.size() && !text.empty() && (name[text.size()] & 0xc0) == 0x80) text.pop_back();
  const bool readable = is_utf8(text);
  for (char& letter : text) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !readable)) letter = '?';
  }
  return text.size() < name.size() ? text + "…" : text;
}

}  // namespace edgevit::detail
