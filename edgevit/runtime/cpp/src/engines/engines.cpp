#include "engines/engines.hpp"

#include <cstdlib>

namespace edgevit::detail {
namespace {

const EngineLibrary* const compiled_in[] = {
#if defined(EDGEVIT_WITH_OPENVINO)
    &openvino_library,
#endif
#if defined(EDGEVIT_WITH_ONNXRUNTIME)
    &onnxruntime_library,
#endif
#if defined(EDGEVIT_WITH_TENSORRT)
    &tensorrt_library,
#endif
#if defined(EDGEVIT_WITH_TENSORRT_RTX)
    &tensorrt_rtx_library,
#endif
    nullptr};

std::string show_shapes(const PortShapes& shapes) {
  std::string text;
  for (const auto& shape : shapes) {
    std::string sides;
    for (const int64_t side : shape) sides += (sides.empty() ? "" : ", ") + (side < 0 ? "any" : std::to_string(side));
    text += (text.empty() ? "(" : ", (") + sides + ")";
  }
  return text;
}

bool differ(const std::vector<int64_t>& said, const std::vector<int64_t>& found) {
  if (said.size() != found.size()) return true;
  for (size_t i = 1; i < said.size(); ++i) {
    if (said[i] >= 0 && found[i] >= 0 && said[i] != found[i]) return true;
  }
  return false;
}

void check(const Bundle& bundle, const EngineRecord& engine, const char* name, const std::vector<TensorSpec>& specs,
           const PortShapes& found) {
  PortShapes said;
  for (const TensorSpec& spec : specs) said.push_back(spec.shape);
  bool fits = said.size() == found.size();
  for (size_t i = 0; fits && i < said.size(); ++i) fits = !differ(said[i], found[i]);
  if (!fits) {
    throw Failure(EDGEVIT_UNSAFE,
                  bundle.path() + ": of " + engine.files.front() + " the " + name + " are " + show_shapes(found) +
                      ", and the bundle says " + show_shapes(said),
                  "build the bundle again");
  }
}

}  // namespace

std::vector<std::string> list_engine_libraries() {
  std::vector<std::string> names;
  for (const EngineLibrary* library : compiled_in) {
    if (library != nullptr) names.emplace_back(library->name);
  }
  return names;
}

const EngineLibrary& get_engine_library(const std::string& name) {
  std::string known;
  for (const EngineLibrary* library : compiled_in) {
    if (library == nullptr) continue;
    if (name == library->name) return *library;
    known += (known.empty() ? "" : ", ") + std::string(library->name);
  }
  throw Failure(EDGEVIT_LIBRARY, "the bundle's engine is for " + name + ", which this libedgevit was built without",
                "it opens engines of " + (known.empty() ? "no library" : known) +
                    ": configure it with -DEDGEVIT_<LIBRARY>=ON, and build it again");
}

void check_ports(const Bundle& bundle, const EngineRecord& engine, const PortShapes& inputs, const PortShapes& outputs) {
  check(bundle, engine, "inputs", engine.inputs, inputs);
  check(bundle, engine, "outputs", engine.outputs, outputs);
}

std::string advise(const std::string& said) {
  // none of the libraries has a type of its own for it: these are the words of C++, the C library, and TBB
  for (const char* words : {"bad_alloc", "can't alloc", "Cannot allocate memory", "Resource temporarily unavailable",
                            "Failed to allocate memory", "out of memory"}) {
    if (said.find(words) != std::string::npos) return "free some memory or allow more, and call again";
  }
  return "build the bundle again on this machine";
}

std::vector<int> parse_version(const std::string& text, size_t parts) {
  std::vector<int> numbers;
  const char* at = text.c_str();
  while (numbers.size() < parts && *at >= '0' && *at <= '9') {
    char* end = nullptr;
    numbers.push_back(static_cast<int>(std::strtol(at, &end, 10)));
    at = *end == '.' ? end + 1 : "";
  }
  numbers.resize(parts, 0);
  return numbers;
}

}  // namespace edgevit::detail
