// Value: a JSON document that anybody may have written, with its numbers as they stand in the text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace edgevit::detail {

constexpr size_t kMostLevels = 32;
/// Of a document: a list of as many labels is far beyond any model's.
constexpr size_t kMostValues = size_t{1} << 17;

/// What is wrong with a text that should be JSON.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A table has a key twice: readers differ in which of them they take.
class RepeatedKey : public JsonError {
 public:
  using JsonError::JsonError;
};

class Value {
 public:
  enum class Type : uint8_t { null, truth, whole, real, text, list, table };
  struct Children {
    std::vector<std::string> keys;  // of a table, in the text's order
    std::vector<Value> items;
  };

  Value() = default;
  Value(Type type, std::string text) : text_(std::move(text)), type_(type) {}
  explicit Value(bool truth) : type_(Type::truth), truth_(truth) {}
  explicit Value(Type type) : children_(std::make_unique<Children>()), type_(type) {}

  Type type() const noexcept { return type_; }
  bool truth() const noexcept { return truth_; }
  bool is_text() const noexcept { return type_ == Type::text; }
  /// Of a text its content in UTF-8, of a number its digits.
  const std::string& text() const noexcept { return text_; }
  /// Nothing where it is no whole number, or one that 64 bits do not hold.
  std::optional<int64_t> whole() const noexcept;
  /// Of any number; nothing where it is none.
  std::optional<double> number() const noexcept;
  /// Of a list or table; empty of anything else.
  const std::vector<Value>& items() const noexcept;
  const std::vector<std::string>& keys() const noexcept;
  /// A table's value, or nothing.
  const Value* find(std::string_view key) const noexcept;

  /// From a table, where it has it.
  void remove(std::string_view key);

  Children& children() noexcept { return *children_; }

 private:
  std::string text_;
  std::unique_ptr<Children> children_;
  Type type_ = Type::null;
  bool truth_ = false;
};

/// The document. Throws JsonError: it is not JSON in UTF-8, has lists and tables more than `most_levels` deep within
/// one another, more than kMostValues values, a whole number beyond 64 bits or one that no float holds; RepeatedKey.
Value parse_json(std::string_view text, size_t most_levels);

/// As Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))`, to the byte, without one key of the
/// outermost table; of a longer text at most the first `most` bytes or little more.
std::string dump_json(const Value& value, std::string_view left_out = {}, size_t most = SIZE_MAX);

}  // namespace edgevit::detail
