#include "bundle/json_value.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <set>

#include <nlohmann/json.hpp>

#include "bundle/problems.hpp"

namespace edgevit::detail {

namespace {

/// nlohmann's parser calls this for every token, and holds no document of its own.
class Reader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(size_t most_levels) : most_levels_(most_levels) {}

  bool null() override { return put(Value()); }
  bool boolean(bool truth) override { return put(Value(truth)); }
  bool number_integer(int64_t number) override { return put(Value(Value::Type::whole, std::to_string(number))); }
  bool number_unsigned(uint64_t number) override {
    const bool fits = number <= static_cast<uint64_t>(INT64_MAX);
    return fits ? number_integer(static_cast<int64_t>(number))
                : refuse("the number " + std::to_string(number) + " is too large");
  }
  bool string(std::string& text) override { return put(Value(Value::Type::text, std::move(text))); }
  bool binary(binary_t&) override { return false; }
  bool start_array(size_t) override { return open(Value::Type::list); }
  bool start_object(size_t) override { return open(Value::Type::table); }
  bool end_array() override { return close(); }
  bool end_object() override { return repeated_.empty() && close(); }

  bool number_float(double, const std::string& digits) override {
    // a whole number beyond 64 bits comes here as well
    const bool whole = digits.find_first_not_of("-0123456789") == std::string::npos;
    if (whole) return refuse("the number " + digits.substr(0, 40) + " is too large");
    std::string text = digits;
    for (char& letter : text) {
      const bool known = (letter >= '0' && letter <= '9') || letter == '-' || letter == '+' || (letter | 32) == 'e';
      if (!known) letter = '.';  // whatever the locale calls it
    }
    return put(Value(Value::Type::real, std::move(text)));
  }

  bool key(std::string& name) override {
    if (!seen_.back().insert(name).second && repeated_.empty())
      repeated_ = "a table has the key " + show_name(name) + " twice";
    open_.back()->children().keys.push_back(std::move(name));
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const std::string_view said = error.what();
    const size_t begin = said.find("] ");  // behind the library's own number of it
    if (fault_.empty()) fault_ = show_name(said.substr(begin == std::string_view::npos ? 0 : begin + 2), 300);
    return false;
  }

  const std::string& fault() const { return fault_; }
  const std::string& repeated() const { return repeated_; }
  Value take() { return std::move(root_); }

 private:
  bool refuse(std::string fault) {
    fault_ = std::move(fault);
    return false;
  }

  Value* place(Value&& value) {
    if (++count_ > kMostValues) {
      refuse("it has more than " + std::to_string(kMostValues) + " values");
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    open_.back()->children().items.push_back(std::move(value));
    return &open_.back()->children().items.back();
  }

  bool put(Value&& value) { return place(std::move(value)) != nullptr; }

  bool open(Value::Type type) {
    if (open_.size() >= most_levels_) return refuse("nested more than " + std::to_string(most_levels_) + " deep");
    Value* placed = place(Value(type));
    if (placed == nullptr) return false;
    open_.push_back(placed);  // its list grows only after it has been closed
    seen_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    seen_.pop_back();
    return true;
  }

  Value root_;
  std::vector<Value*> open_;
  std::vector<std::set<std::string>> seen_;  // ordered, as whoever writes the keys could make all hashes equal
  std::string fault_;
  std::string repeated_;
  size_t most_levels_;
  size_t count_ = 0;
};

const Value::Children kNone;

/// Python's `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16.
std::string write_real(double number) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string sign;
  if (text.front() == '-') {
    sign = "-";
    text.remove_prefix(1);
  }
  const size_t mark = text.find('e');
  std::string digits(text.substr(0, 1));
  if (mark > 2) digits += text.substr(2, mark - 2);
  int exponent = 0;
  const size_t skip = text[mark + 1] == '+' ? 2 : 1;
  std::from_chars(text.data() + mark + skip, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    const std::string power = std::to_string(std::abs(exponent));
    const std::string rest = digits.size() > 1 ? "." + digits.substr(1) : "";
    return sign + digits[0] + rest + "e" + (exponent < 0 ? "-" : "+") + (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t before = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= before) return sign + digits + std::string(before - digits.size(), '0') + ".0";
  return sign + digits.substr(0, before) + "." + digits.substr(before);
}

void write_unit(std::string& out, unsigned unit) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[unit >> shift & 15];
}

/// Everything beyond ASCII as \uXXXX; the parser has refused what is no UTF-8.
void write_text(std::string& out, const std::string& text) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at++]);
    switch (byte) {
      case '"': out += "\\\""; continue;
      case '\\': out += "\\\\"; continue;
      case '\n': out += "\\n"; continue;
      case '\r': out += "\\r"; continue;
      case '\t': out += "\\t"; continue;
      case '\f': out += "\\f"; continue;
      case '\b': out += "\\b"; continue;
      default: break;
    }
    if (byte >= 0x20 && byte < 0x7f) {
      out += static_cast<char>(byte);
      continue;
    }
    const int more = byte < 0x80 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    unsigned point = more == 0 ? byte : byte & (0x3fU >> more);
    for (int i = 0; i < more && at < text.size(); ++i)
      point = point << 6 | (static_cast<unsigned char>(text[at++]) & 63U);
    if (point < 0x10000) {
      write_unit(out, point);
    } else {
      write_unit(out, 0xd800 + ((point - 0x10000) >> 10));
      write_unit(out, 0xdc00 + ((point - 0x10000) & 0x3ff));
    }
  }
  out += '"';
}

void write(std::string& out, const Value& value, std::string_view left_out, size_t most) {
  const auto& items = value.items();
  const auto& keys = value.keys();
  switch (value.type()) {
    case Value::Type::null: out += "null"; break;
    case Value::Type::truth: out += value.truth() ? "true" : "false"; break;
    case Value::Type::whole: out += value.text(); break;
    case Value::Type::real: out += write_real(value.number().value_or(0)); break;
    case Value::Type::text: write_text(out, value.text()); break;
    case Value::Type::list:
      out += '[';
      for (size_t i = 0; i < items.size() && out.size() < most; ++i) {
        if (i > 0) out += ',';
        write(out, items[i], {}, most);
      }
      out += ']';
      break;
    case Value::Type::table: {
      std::vector<size_t> order;
      for (size_t i = 0; i < keys.size(); ++i) {
        if (left_out.empty() || keys[i] != left_out) order.push_back(i);
      }
      // bytes of UTF-8 are in the order of the code points
      std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return keys[a] < keys[b]; });
      out += '{';
      for (size_t i = 0; i < order.size() && out.size() < most; ++i) {
        if (i > 0) out += ',';
        write_text(out, keys[order[i]]);
        out += ':';
        write(out, items[order[i]], {}, most);
      }
      out += '}';
      break;
    }
  }
}

}  // namespace

std::optional<int64_t> Value::whole() const noexcept {
  int64_t number = 0;
  const char* end = text_.data() + text_.size();
  if (type_ != Type::whole) return std::nullopt;
  const auto read = std::from_chars(text_.data(), end, number);
  return read.ec == std::errc() && read.ptr == end ? std::optional<int64_t>(number) : std::nullopt;
}

std::optional<double> Value::number() const noexcept {
  double number = 0;
  const char* end = text_.data() + text_.size();
  if (type_ != Type::whole && type_ != Type::real) return std::nullopt;
  const auto read = std::from_chars(text_.data(), end, number);
  if (read.ptr != end) return std::nullopt;
  // too small for any float but zero is no fault: one that is too large the parser has refused
  return read.ec == std::errc::result_out_of_range ? (text_.front() == '-' ? -0.0 : 0.0) : number;
}

const std::vector<Value>& Value::items() const noexcept { return children_ ? children_->items : kNone.items; }

const std::vector<std::string>& Value::keys() const noexcept { return children_ ? children_->keys : kNone.keys; }

const Value* Value::find(std::string_view key) const noexcept {
  for (size_t i = 0; i < keys().size(); ++i) {
    if (keys()[i] == key) return &items()[i];
  }
  return nullptr;
}

void Value::remove(std::string_view key) {
  for (size_t i = 0; i < keys().size(); ++i) {
    if (keys()[i] != key) continue;
    children_->keys.erase(children_->keys.begin() + static_cast<ptrdiff_t>(i));
    children_->items.erase(children_->items.begin() + static_cast<ptrdiff_t>(i));
    return;
  }
}

Value parse_json(std::string_view text, size_t most_levels) {
  // the parser takes a zero byte for the end, and passes over a mark of the byte order
  if (text.find('\0') != std::string_view::npos) throw JsonError("it has a zero byte");
  if (text.substr(0, 3) == "\xef\xbb\xbf") throw JsonError("it begins with a mark of the byte order");
  Reader reader(most_levels);
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) return reader.take();
  if (!reader.fault().empty()) throw JsonError(reader.fault());
  throw RepeatedKey(reader.repeated());
}

std::string dump_json(const Value& value, std::string_view left_out, size_t most) {
  std::string text;
  write(text, value, left_out, most);
  return text;
}

}  // namespace edgevit::detail
