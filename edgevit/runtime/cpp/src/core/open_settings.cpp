#include "core/open_settings.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <sstream>
#include <type_traits>

#include "failure.hpp"

namespace edgevit::detail {
namespace {

using Names = std::vector<std::string>;

const Names cpu_keys{"hint", "threads", "streams", "inference_precision"};
const Names gpu_keys{"hint", "streams", "cuda_graph", "wait", "transfers"};
const Names same_answers{"hint", "threads", "streams", "cuda_graph", "wait", "transfers"};
constexpr int64_t most = 1024;  // each thread and each stream takes memory

bool contains(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string join(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// What the value should be; empty where it is that.
std::string find_fault(const std::string& key, const Setting& value) {
  const auto choose = [&](const Names& choices) -> std::string {
    const auto* text = std::get_if<std::string>(&value);
    if (text != nullptr && contains(choices, *text)) return "";
    return choices.size() > 1 ? "one of " + join(choices) : choices.front();
  };
  if (key == "hint") return choose({"latency", "throughput"});
  if (key == "inference_precision") return choose({"f32", "f16", "bf16"});
  if (key == "wait") return choose({"spin", "block"});
  if (key == "transfers") return choose({"included"});
  if (key == "cuda_graph") return std::holds_alternative<bool>(value) ? "" : "true or false";
  const auto* number = std::get_if<int64_t>(&value);
  const bool fits = number != nullptr && *number >= 1 && *number <= most;
  return fits ? "" : "a whole number from 1 to " + std::to_string(most);
}

std::string show_number(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  std::string shown(text, end);
  const bool whole = std::isfinite(value) && shown.find_first_of(".e") == std::string::npos;
  return whole ? shown + ".0" : shown;
}

}  // namespace

OpenSettings read_settings(const Settings& settings, bool (*is_property)(const std::string&), SettingsOf kind) {
  const Names& keys = kind == SettingsOf::gpu ? gpu_keys : cpu_keys;
  Names offenders;
  OpenSettings opened;
  for (const auto& [key, value] : settings) {
    if (contains(keys, key)) {
      const std::string fault = find_fault(key, value);
      if (!fault.empty()) {
        offenders.push_back(key + " = " + show(value) + " is not " + fault);
        continue;
      }
      if (key == "hint") opened.hint = std::get<std::string>(value);
      if (key == "inference_precision") opened.inference_precision = std::get<std::string>(value);
      if (key == "wait") opened.wait = std::get<std::string>(value);
      if (key == "cuda_graph") opened.cuda_graph = std::get<bool>(value);
      if (key == "threads") opened.threads = static_cast<int>(std::get<int64_t>(value));
      if (key == "streams") opened.streams = static_cast<int>(std::get<int64_t>(value));
    } else if (contains(cpu_keys, key) || contains(gpu_keys, key)) {
      offenders.push_back(key + " is a setting of engines for " +
                          (contains(gpu_keys, key) ? "an NVIDIA GPU" : "a CPU or an Intel device"));
    } else if (is_property == nullptr || !is_property(key)) {
      offenders.push_back("unknown setting " + key);
    } else {
      opened.properties.emplace(key, value);
    }
  }
  if (!offenders.empty()) {
    std::string text = "the engine's settings are not valid:";
    for (const std::string& offender : offenders) text += "\n  " + offender;
    throw Failure(EDGEVIT_ARGUMENT, text,
                  "the settings are " + join(keys) +
                      (is_property != nullptr ? ", and the engine library's own properties" : ""));
  }
  return opened;
}

Settings parse_settings(const char* const* texts, size_t count) {
  Settings settings;
  for (size_t i = 0; i < count; ++i) {
    const char* equals = texts[i] != nullptr ? std::strchr(texts[i], '=') : nullptr;
    if (equals == nullptr || equals == texts[i]) {
      throw Failure(EDGEVIT_ARGUMENT, std::string("the setting ") + (texts[i] != nullptr ? texts[i] : "NULL") +
                                          " is not of the form key=value",
                    "give settings such as \"hint=throughput\"");
    }
    const std::string key(texts[i], equals), text(equals + 1);
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text == "true" || text == "false") {
      settings[key] = text == "true";
    } else if (error == std::errc() && end == text.data() + text.size()) {
      settings[key] = number;
    } else {
      settings[key] = text;
    }
  }
  return settings;
}

std::string show(const Setting& setting) {
  return std::visit(
      [](const auto& value) -> std::string {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>) return value;
        else if constexpr (std::is_same_v<T, bool>) return value ? "True" : "False";
        else if constexpr (std::is_same_v<T, double>) return show_number(value);
        else return std::to_string(value);
      },
      setting);
}

std::string write_setting(const std::string& key, const Setting& setting) {
  const auto* truth = std::get_if<bool>(&setting);
  return key + "=" + (truth != nullptr ? (*truth ? "true" : "false") : show(setting));
}

Settings select_settings(const Settings& settings) {
  Settings selected;
  for (const auto& [key, value] : settings) {
    if (!contains(same_answers, key)) selected.emplace(key, value);
  }
  return selected;
}

}  // namespace edgevit::detail
