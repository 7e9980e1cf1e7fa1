#include "bundle/engine_files.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "bundle/onnx_references.hpp"
#include "bundle/problems.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

constexpr const char* kRebuild = "build the bundle again";

bool lists(const EngineRecord& engine, const std::string& name) {
  return std::find(engine.files.begin(), engine.files.end(), name) != engine.files.end();
}

std::string name_weights(const std::string& model) {
  const size_t slash = model.rfind('/');
  const size_t base = slash == std::string::npos ? 0 : slash + 1;
  const size_t dot = model.rfind('.');
  return (dot == std::string::npos || dot <= base ? model : model.substr(0, dot)) + ".bin";
}

void check_openvino(const Bundle& bundle, const EngineRecord& engine, const Source& source) {
  const std::string& model = engine.files.front();
  const std::string path = bundle.path() + "/" + model;
  const auto bytes = bundle.map(model);
  std::string_view begin(reinterpret_cast<const char*>(bytes->data()), std::min<size_t>(bytes->size(), 64));
  while (!begin.empty() && std::strchr(" \t\n\r\v\f", begin.front()) != nullptr && begin.front() != '\0')
    begin.remove_prefix(1);
  if (begin.substr(0, 5) != "<?xml" && begin.substr(0, 4) != "<net") {
    throw Failure(EDGEVIT_UNSAFE, path + " is not a model of OpenVINO's own format", kRebuild);
  }
  const std::string weights = name_weights(model);
  if (!source.packed() && source.has(weights) && !lists(engine, weights)) {
    throw Failure(EDGEVIT_UNSAFE, bundle.path() + "/" + weights + " holds weights, and the bundle does not list it",
                  kRebuild);
  }
}

void check_onnx(const Bundle& bundle, const EngineRecord& engine) {
  const std::string& model = engine.files.front();
  const std::string path = bundle.path() + "/" + model;
  const auto bytes = bundle.map(model);
  Problems others;
  try {
    for (const std::string& name : list_references(bytes->data(), bytes->size())) {
      others.add_if(!lists(engine, name.rfind("./", 0) == 0 ? name.substr(2) : name), show_name(name));
    }
  } catch (const std::invalid_argument& error) {
    throw Failure(EDGEVIT_UNSAFE, path + " is not an ONNX file: " + error.what(), kRebuild);
  }
  if (others.empty()) return;
  throw Failure(EDGEVIT_UNSAFE, path + " reads files that the bundle does not list:\n" + others.list(), kRebuild);
}

}  // namespace

void check_engine_files(const Bundle& bundle, const Source& source) {
  if (!bundle.manifest().engine) return;
  const EngineRecord& engine = *bundle.manifest().engine;
  if (engine.backend == "openvino") check_openvino(bundle, engine, source);
  if (engine.backend == "onnxruntime") check_onnx(bundle, engine);
}

}  // namespace edgevit::detail
