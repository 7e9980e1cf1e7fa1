// How an engine is opened: settings that mean the same for every engine library; as edgevit/runtime/settings.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"

namespace edgevit::detail {

/// Settings after checking; nothing where the device chooses.
struct OpenSettings {
  std::string hint = "latency";
  std::optional<int> threads;
  std::optional<int> streams;
  std::optional<std::string> inference_precision;
  std::optional<bool> cuda_graph;
  std::optional<std::string> wait;
  std::string transfers = "included";
  Settings properties;  // the library's own
};

enum class SettingsOf { cpu, gpu };

/// Checks settings. `is_property` says whether a key is one of the library's own; null where it has none. Throws Failure,
/// EDGEVIT_ARGUMENT, with every key or value that is not valid.
OpenSettings read_settings(const Settings& settings, bool (*is_property)(const std::string&), SettingsOf kind);

/// From "key=value" texts: true and false are truth values, digits are numbers, everything else is text. Throws Failure,
/// EDGEVIT_ARGUMENT.
Settings parse_settings(const char* const* texts, size_t count);

/// The value as Python's str() has it.
std::string show(const Setting& setting);

/// The text of "key=value", from which parse_settings() makes the same again.
std::string write_setting(const std::string& key, const Setting& setting);

/// Settings of which none changes an answer are left out.
Settings select_settings(const Settings& settings);

}  // namespace edgevit::detail
