#include "bundle/settings_check.hpp"

#include "bundle/json_value.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

std::string show(const Setting& setting) {
  if (const auto* text = std::get_if<std::string>(&setting)) return "'" + show_name(*text) + "'";
  if (const auto* whole = std::get_if<int64_t>(&setting)) return std::to_string(*whole);
  if (const auto* truth = std::get_if<bool>(&setting)) return *truth ? "true" : "false";
  return std::to_string(std::get<double>(setting));
}

template <typename List, typename Write>
std::string join(const List& list, Write write) {
  std::string text;
  for (const auto& item : list) text += (text.empty() ? "" : ", ") + write(item);
  return text;
}

std::string join_texts(const Span<const char*>& list) {
  return join(list, [](const char* text) { return std::string(text); });
}

std::string join_values(const Property& property) {
  return join(Span<PropertyValue>{property.values, property.count}, [](const PropertyValue& value) {
    return value.text != nullptr ? "'" + std::string(value.text) + "'" : std::string(value.truth ? "true" : "false");
  });
}

/// What one of edgevit's own settings has to be, where it is not; otherwise nothing.
std::string find_fault(const std::string& key, const Setting& setting) {
  const auto* text = std::get_if<std::string>(&setting);
  const auto* whole = std::get_if<int64_t>(&setting);
  for (const Choices& choices : kChoiceKeys) {
    if (key != choices.key || (text != nullptr && contains(choices.values, *text))) continue;
    return (choices.values.count > 1 ? "one of " : "") + join_texts(choices.values);
  }
  if (contains(kSwitchKeys, key) && !std::holds_alternative<bool>(setting)) return "true or false";
  if (contains(kCountKeys, key) && (whole == nullptr || *whole < 1 || *whole > kMostCount)) {
    return "a whole number from 1 to " + std::to_string(kMostCount);
  }
  return {};
}

bool is_allowed(const Property& property, const Setting& setting) {
  const auto* text = std::get_if<std::string>(&setting);
  const auto* truth = std::get_if<bool>(&setting);
  for (const PropertyValue& value : Span<PropertyValue>{property.values, property.count}) {
    if (value.text != nullptr ? text != nullptr && *text == value.text : truth != nullptr && *truth == value.truth) {
      return true;
    }
  }
  return false;
}

}  // namespace

const Library* find_library(const std::string& name) {
  for (const Library& library : kLibraries) {
    if (name == library.name) return &library;
  }
  return nullptr;
}

bool contains(const Span<const char*>& list, const std::string& text) {
  for (const char* item : list) {
    if (text == item) return true;
  }
  return false;
}

void check_settings(const Settings& settings, const std::string& backend, const std::string& where) {
  const Library* library = find_library(backend);
  if (library == nullptr) return;
  const Span<const char*>& own = library->nvidia ? kGpuKeys : kKeys;
  Problems problems;
  for (const auto& [key, setting] : settings) {
    const std::string said = show_name(key) + " = " + show(setting);
    const Property* property = nullptr;
    for (const Property& candidate : library->properties) {
      if (key == candidate.key) property = &candidate;
    }
    if (contains(own, key)) {
      const std::string fault = find_fault(key, setting);
      problems.add_if(!fault.empty(), said + " is not " + fault);
    } else if (property == nullptr) {
      problems.add(said + " is not a setting that a bundle may have");
    } else if (!is_allowed(*property, setting)) {
      problems.add(said + " is not one of " + join_values(*property));
    }
  }
  if (problems.empty()) return;
  std::string valid = join_texts(own);
  for (const Property& property : library->properties) valid += ", " + std::string(property.key);
  throw Failure(EDGEVIT_UNSAFE, where + " cannot stand in a bundle:\n" + problems.list(),
                "build it again without them; whoever opens a bundle may give any other; a bundle's own are " + valid);
}

}  // namespace edgevit::detail
