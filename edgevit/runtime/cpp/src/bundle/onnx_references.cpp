#include "bundle/onnx_references.hpp"

#include <set>
#include <stdexcept>
#include <string_view>

namespace edgevit::detail {

namespace {

enum class Message { other, model, training, graph, function, node, attribute, sparse, tensor, entry };

/// What lies within a message, by the number of its field, on the way to the places of tensors' contents; the fields
/// are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
Message find_inner(Message message, uint64_t number) {
  switch (message) {
    case Message::model:
      return number == 7    ? Message::graph
             : number == 20 ? Message::training
             : number == 25 ? Message::function
                            : Message::other;
    case Message::training: return number == 1 || number == 2 ? Message::graph : Message::other;
    case Message::graph:
      return number == 1    ? Message::node
             : number == 5  ? Message::tensor
             : number == 15 ? Message::sparse
                            : Message::other;
    case Message::function: return number == 7 ? Message::node : number == 11 ? Message::attribute : Message::other;
    case Message::node: return number == 5 ? Message::attribute : Message::other;
    case Message::attribute:
      return number == 5 || number == 10    ? Message::tensor
             : number == 6 || number == 11  ? Message::graph
             : number == 22 || number == 23 ? Message::sparse
                                            : Message::other;
    case Message::sparse: return number == 1 || number == 2 ? Message::tensor : Message::other;
    case Message::tensor: return number == 13 ? Message::entry : Message::other;
    default: return Message::other;
  }
}

/// A message on the way, of which what is before `at` has been read.
struct Open {
  Message message;
  size_t at;
  size_t end;
};

struct Number {
  uint64_t value;
  bool wide;  // more than 64 bits
};

class Walk {
 public:
  Walk(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  std::vector<std::string> run() {
    open_.push_back({Message::model, 0, size_});
    while (!open_.empty()) {
      if (open_.back().at < open_.back().end) {
        step();
      } else {
        open_.pop_back();
      }
    }
    if (!has_graph_) throw std::invalid_argument("it has no graph");
    return std::move(found_);
  }

 private:
  /// Reads a field of the innermost message, and opens the message that it holds.
  void step() {
    Open& open = open_.back();
    const Number tag = read_number(open);
    const uint64_t form = tag.value & 7;
    const uint64_t number = tag.wide ? UINT64_MAX : tag.value >> 3;
    if (form == 0) {
      read_number(open);
    } else if (form == 1 || form == 5) {
      skip(open, form == 1 ? 8 : 4);
    } else if (form == 2) {
      const Number length = read_number(open);
      if (length.wide || length.value > open.end - open.at) throw std::invalid_argument("it ends too early");
      const size_t begin = open.at;
      open.at += static_cast<size_t>(length.value);
      const Message inner = find_inner(open.message, number);
      has_graph_ = has_graph_ || inner == Message::graph;
      if (inner == Message::entry) {
        read_entry({inner, begin, begin + static_cast<size_t>(length.value)});
      } else if (inner != Message::other) {
        open_.push_back({inner, begin, begin + static_cast<size_t>(length.value)});  // `open` is void from here
      }
    } else {
      throw std::invalid_argument("it has a field of the unknown form " + std::to_string(form));
    }
  }

  /// A key and a value, each the last of its field.
  void read_entry(Open entry) {
    std::string_view key;
    std::string_view value;
    while (entry.at < entry.end) {
      const Number tag = read_number(entry);
      const uint64_t form = tag.value & 7;
      if (form == 0) {
        read_number(entry);
      } else if (form == 1 || form == 5) {
        skip(entry, form == 1 ? 8 : 4);
      } else if (form == 2) {
        const Number length = read_number(entry);
        if (length.wide || length.value > entry.end - entry.at) throw std::invalid_argument("it ends too early");
        const std::string_view text(reinterpret_cast<const char*>(data_) + entry.at, static_cast<size_t>(length.value));
        if (!tag.wide && tag.value >> 3 == 1) key = text;
        if (!tag.wide && tag.value >> 3 == 2) value = text;
        entry.at += text.size();
      } else {
        throw std::invalid_argument("it has a field of the unknown form " + std::to_string(form));
      }
    }
    if (key == "location" && seen_.insert(std::string(value)).second) found_.emplace_back(value);
  }

  static void skip(Open& open, size_t count) {
    if (count > open.end - open.at) throw std::invalid_argument("it ends too early");
    open.at += count;
  }

  /// A number of seven bits a byte, the low ones first.
  Number read_number(Open& open) const {
    Number number{0, false};
    for (unsigned place = 0; place < 10 && open.at < open.end; ++place) {
      const uint8_t byte = data_[open.at++];
      number.value |= static_cast<uint64_t>(byte & 127) << 7 * place;
      number.wide = number.wide || (place == 9 && (byte & 126) != 0);
      if (byte < 128) return number;
    }
    throw std::invalid_argument("it ends too early, or has a number of more than 64 bits");
  }

  const uint8_t* data_;
  size_t size_;
  std::vector<Open> open_;
  std::vector<std::string> found_;
  std::set<std::string> seen_;
  bool has_graph_ = false;
};

}  // namespace

std::vector<std::string> list_references(const uint8_t* data, size_t size) { return Walk(data, size).run(); }

}  // namespace edgevit::detail
