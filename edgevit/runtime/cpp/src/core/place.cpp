#include "core/place.hpp"

#include <cstdio>
#include <map>
#include <utility>

#include "core/open_settings.hpp"

namespace edgevit::detail {
namespace {

const char* const machine_parts[] = {"engine library", "device", "instruction set", "driver"};

/// What a place is made of, by words for people, in order.
std::vector<std::pair<std::string, std::string>> list_parts(const Place& place) {
  std::vector<std::pair<std::string, std::string>> parts{{machine_parts[0], place.backend + " " + place.version}};
  if (place.device) parts.emplace_back(machine_parts[1], *place.device);
  if (place.instruction_set) parts.emplace_back(machine_parts[2], *place.instruction_set);
  if (place.driver) parts.emplace_back(machine_parts[3], *place.driver);
  for (const auto& [key, value] : place.settings) parts.emplace_back(key, show(value));
  return parts;
}

/// The next code point of UTF-8; a byte that begins none stands for U+FFFD.
uint32_t take_code_point(const std::string& text, size_t& at) {
  const auto byte = [&](size_t i) -> uint32_t { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  const uint32_t first = byte(at);
  const int more = first < 0x80 ? 0 : first >= 0xC2 && first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
  if (first >= 0x80 && (first < 0xC2 || first > 0xF4)) return ++at, 0xFFFD;
  uint32_t value = more == 0 ? first : first & (0x3FU >> more);
  for (int i = 1; i <= more; ++i) {
    const uint32_t next = byte(at + static_cast<size_t>(i));
    if ((next & 0xC0) != 0x80) return ++at, 0xFFFD;
    value = value << 6 | (next & 0x3F);
  }
  at += static_cast<size_t>(more) + 1;
  return value;
}

std::string quote(const std::string& text) {
  std::string quoted = "\"";
  const auto escape = [&](uint32_t unit) {
    char hex[16];
    std::snprintf(hex, sizeof hex, "\\u%04x", unit);
    quoted += hex;
  };
  for (size_t at = 0; at < text.size();) {
    const uint32_t code = take_code_point(text, at);
    switch (code) {
      case '"': quoted += "\\\""; break;
      case '\\': quoted += "\\\\"; break;
      case '\n': quoted += "\\n"; break;
      case '\r': quoted += "\\r"; break;
      case '\t': quoted += "\\t"; break;
      case '\f': quoted += "\\f"; break;
      case '\b': quoted += "\\b"; break;
      default:
        if (code >= 0x20 && code < 0x7F) {
          quoted += static_cast<char>(code);
        } else if (code < 0x10000) {
          escape(code);
        } else {
          escape(0xD800 + ((code - 0x10000) >> 10));
          escape(0xDC00 + ((code - 0x10000) & 0x3FF));
        }
    }
  }
  return quoted + "\"";
}

std::string dump(const Setting& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return quote(*text);
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  return show(value);
}

std::string dump(const std::map<std::string, std::string>& members) {
  std::string text;
  for (const auto& [key, value] : members) text += (text.empty() ? "" : ", ") + quote(key) + ": " + value;
  return "{" + text + "}";
}

}  // namespace

std::vector<PlaceDifference> compare_places(const Place& here, const Place& built) {
  const auto ours = list_parts(here), theirs = list_parts(built);
  const auto find = [](const auto& parts, const std::string& name) -> const std::string* {
    for (const auto& [key, value] : parts) {
      if (key == name) return &value;
    }
    return nullptr;
  };
  std::vector<std::string> names;
  for (const auto& part : theirs) names.push_back(part.first);
  for (const auto& part : ours) {
    if (find(theirs, part.first) == nullptr) names.push_back(part.first);
  }
  std::vector<PlaceDifference> differences;
  for (const std::string& name : names) {
    bool machine = false;
    for (const char* part : machine_parts) machine = machine || name == part;
    const std::string absent = machine ? "unknown" : "not set";
    const std::string *mine = find(ours, name), *other = find(theirs, name);
    const PlaceDifference pair{name, mine != nullptr ? *mine : absent, other != nullptr ? *other : absent, machine};
    if (pair.here != pair.built) differences.push_back(pair);
  }
  return differences;
}

std::string dump_place(const std::string& manifest_sha256, const Place& place) {
  std::map<std::string, std::string> settings, members;
  for (const auto& [key, value] : place.settings) settings[key] = dump(value);
  members["backend"] = quote(place.backend);
  members["version"] = quote(place.version);
  if (place.device) members["device"] = quote(*place.device);
  if (place.instruction_set) members["instruction_set"] = quote(*place.instruction_set);
  if (place.driver) members["driver"] = quote(*place.driver);
  members["settings"] = dump(settings);
  return "[" + quote(manifest_sha256) + ", " + dump(members) + "]";
}

}  // namespace edgevit::detail
