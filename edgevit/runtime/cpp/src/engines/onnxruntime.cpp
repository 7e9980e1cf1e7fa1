// Opening ONNX Runtime's engines on the CPU, through its C interface; as edgevit/runtime/onnxruntime.py.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>

#include "core/cores.hpp"
#include "core/open_settings.hpp"
#include "core/processor.hpp"
#include "engines/engines.hpp"

namespace edgevit::detail {
namespace {

constexpr uint32_t needed_api = 18;  // of ONNX Runtime 1.18, the first that takes weights from memory
constexpr const char* minimum_version = "1.18";
static_assert(ORT_API_VERSION >= needed_api, "libedgevit needs the headers of ONNX Runtime 1.18 or later");
constexpr int most_requests = 256;

std::string read_version() { return OrtGetApiBase()->GetVersionString(); }

/// The functions of 1.18, which every later release has, so that headers may be newer than the library.
/// Throws Failure, EDGEVIT_LIBRARY: the library that was loaded is older than that.
const OrtApi& get_api() {
  static const OrtApi* const api = OrtGetApiBase()->GetApi(needed_api);
  if (api == nullptr) {
    throw Failure(EDGEVIT_LIBRARY, "ONNX Runtime " + read_version() + " is too old: libedgevit needs " + minimum_version + " or later",
                  "install a newer ONNX Runtime");
  }
  return *api;
}

/// Throws Failure, EDGEVIT_DEVICE, with what the library said.
void ask(std::string_view what, OrtStatus* status) {
  if (status == nullptr) return;
  const std::string said = get_api().GetErrorMessage(status);
  get_api().ReleaseStatus(status);
  throw Failure(EDGEVIT_DEVICE, std::string(what) + ": " + said, advise(said));
}

/// The process's one environment, never freed: engines may outlive static objects.
OrtEnv* get_environment() {
  static OrtEnv* const environment = [] {
    OrtEnv* made = nullptr;
    ask("ONNX Runtime does not start", get_api().CreateEnv(ORT_LOGGING_LEVEL_ERROR, "edgevit", &made));
    return made;
  }();
  return environment;
}

template <typename T, void (*OrtApi::*Release)(T*)>
struct Releaser {
  void operator()(T* object) const { (get_api().*Release)(object); }
};
template <typename T, void (*OrtApi::*Release)(T*)>
using Held = std::unique_ptr<T, Releaser<T, Release>>;
using Value = Held<OrtValue, &OrtApi::ReleaseValue>;
using HeldOptions = Held<OrtSessionOptions, &OrtApi::ReleaseSessionOptions>;
using HeldSession = Held<OrtSession, &OrtApi::ReleaseSession>;
using HeldMemory = Held<OrtMemoryInfo, &OrtApi::ReleaseMemoryInfo>;

std::optional<Mismatch> find_mismatch(const EngineRecord& engine) {
  if (engine.device != "CPU") {
    return Mismatch{EDGEVIT_DEVICE,
                    "the engine is for ONNX Runtime's device " + engine.device + "; libedgevit opens those for the CPU only",
                    "open it in Python, or build a bundle for the CPU"};
  }
  const std::string here = read_version();
  if (parse_version(here) < parse_version(minimum_version)) {
    return Mismatch{EDGEVIT_LIBRARY,
                    std::string("the engine needs ONNX Runtime ") + minimum_version + " or later; here is " + here,
                    "install a newer ONNX Runtime"};
  }
  return std::nullopt;
}

std::vector<std::string> find_differences(const EngineRecord& engine) {
  const auto built = engine.versions.find("onnxruntime");
  const std::string here = read_version(), version = built != engine.versions.end() ? built->second : "";
  if (version == here) return {};
  return {"measured with ONNX Runtime " + (version.empty() ? "of unknown version" : version) + "; here is " + here};
}

Place describe_place(const EngineRecord&, const Settings& settings) {
  Place place;
  place.backend = "onnxruntime";
  place.version = read_version();
  place.device = read_processor_name();
  const std::vector<std::string> tiers = list_tiers("");  // its kernels are its own, which oneDNN's limit does not reach
  if (!tiers.empty()) place.instruction_set = tiers.back();
  place.settings = select_settings(settings);
  return place;
}

/// Its session configuration has keys with a dot.
bool is_property(const std::string& key) { return key.find('.') != std::string::npos; }

std::string spell(const Setting& value) {
  const auto* truth = std::get_if<bool>(&value);
  return truth != nullptr ? (*truth ? "1" : "0") : show(value);
}

class OnnxRuntimeExecutor : public Executor {
 public:
  OnnxRuntimeExecutor(const Bundle& bundle, const EngineRecord& engine, const OpenSettings& settings)
      : engine_(engine), file_(bundle.path() + "/" + engine.files.front()) {
    if (settings.inference_precision && *settings.inference_precision != "f32") {
      throw Failure(EDGEVIT_ARGUMENT, "ONNX Runtime computes in f32 on the CPU, not in " + *settings.inference_precision,
                    "leave inference_precision out");
    }
    const int threads = settings.threads ? *settings.threads : choose_threads();
    streams_ = settings.streams ? *settings.streams : settings.hint == "throughput" ? threads : 1;
    open(bundle, make_options(settings, std::max(1, threads / streams_)));
    PortShapes inputs, outputs;
    read_ports(get_api().SessionGetInputCount, get_api().SessionGetInputTypeInfo, inputs);
    read_ports(get_api().SessionGetOutputCount, get_api().SessionGetOutputTypeInfo, outputs);
    check_ports(bundle, engine, inputs, outputs);
    settings_ = settings.properties;
    settings_["hint"] = settings.hint;
    settings_["threads"] = int64_t{threads};
    settings_["streams"] = int64_t{streams_};
    settings_["inference_precision"] = std::string("f32");
  }

  std::unique_ptr<Request> make_request() override;
  const Settings& settings() const noexcept override { return settings_; }
  int streams() const noexcept override { return streams_; }
  int most_requests() const noexcept override { return edgevit::detail::most_requests; }

  OrtSession* session() const noexcept { return session_.get(); }
  const EngineRecord& engine() const noexcept { return engine_; }

 private:
  HeldOptions make_options(const OpenSettings& settings, int threads) const {
    const OrtApi& api = get_api();
    const std::string what = "ONNX Runtime cannot open " + file_;
    OrtSessionOptions* made = nullptr;
    ask(what, api.CreateSessionOptions(&made));
    HeldOptions options(made);
    ask(what, api.SetSessionGraphOptimizationLevel(made, ORT_ENABLE_ALL));
    // given, even where it is the default: otherwise threads are pinned to cores, which a container may refuse
    ask(what, api.SetIntraOpNumThreads(made, threads));
    ask(what, api.SetInterOpNumThreads(made, 1));
    ask(what, api.SetSessionExecutionMode(made, ORT_SEQUENTIAL));
    ask(what, api.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_ERROR));
    // on x86 without VNNI products of u8 and i8 would overflow 16 bits; see edgevit/runtime/onnxruntime.py
    std::map<std::string, std::string> entries{{"session.x64quantprecision", "1"}};
    for (const auto& [key, value] : settings.properties) entries[key] = spell(value);
    for (const auto& [key, value] : entries) ask(what, api.AddSessionConfigEntry(made, key.c_str(), value.c_str()));
    return options;
  }

  void open(const Bundle& bundle, const HeldOptions& options) {
    const OrtApi& api = get_api();
    const std::string what = "ONNX Runtime cannot open " + file_;
    std::vector<std::shared_ptr<const Bytes>> held;
    std::vector<const char*> names;
    std::vector<char*> contents;
    std::vector<size_t> sizes;
    for (size_t i = 1; i < engine_.files.size(); ++i) {  // weights beside the graph; the library copies what it needs
      held.push_back(bundle.map(engine_.files[i]));
      names.push_back(engine_.files[i].c_str());
      contents.push_back(reinterpret_cast<char*>(const_cast<uint8_t*>(held.back()->data())));
      sizes.push_back(held.back()->size());
    }
    if (!names.empty()) {
      ask(what, api.AddExternalInitializersFromFilesInMemory(options.get(), names.data(), contents.data(), sizes.data(),
                                                             names.size()));
    }
    const std::shared_ptr<const Bytes> graph = bundle.map(engine_.files.front());
    OrtSession* made = nullptr;
    ask(what, api.CreateSessionFromArray(get_environment(), graph->data(), graph->size(), options.get(), &made));
    session_.reset(made);
  }

  void read_ports(decltype(OrtApi::SessionGetInputCount) count_ports, decltype(OrtApi::SessionGetInputTypeInfo) read_type,
                  PortShapes& shapes) const {
    const OrtApi& api = get_api();
    const std::string what = "ONNX Runtime does not describe " + file_;
    size_t count = 0;
    ask(what, count_ports(session_.get(), &count));
    for (size_t i = 0; i < count; ++i) {
      OrtTypeInfo* type = nullptr;
      ask(what, read_type(session_.get(), i, &type));
      const Held<OrtTypeInfo, &OrtApi::ReleaseTypeInfo> held(type);
      const OrtTensorTypeAndShapeInfo* tensor = nullptr;
      ask(what, api.CastTypeInfoToTensorInfo(type, &tensor));
      size_t rank = 0;
      if (tensor != nullptr) ask(what, api.GetDimensionsCount(tensor, &rank));
      std::vector<int64_t> shape(rank);
      if (tensor != nullptr) ask(what, api.GetDimensions(tensor, shape.data(), rank));
      shapes.push_back(shape);
    }
  }

  EngineRecord engine_;
  std::string file_;
  HeldSession session_;
  Settings settings_;
  int streams_ = 1;
};

class OnnxRuntimeRequest : public Request {
 public:
  explicit OnnxRuntimeRequest(const OnnxRuntimeExecutor& executor) : executor_(executor) {
    const EngineRecord& engine = executor.engine();
    OrtMemoryInfo* made = nullptr;
    ask("ONNX Runtime has no host memory", get_api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &made));
    memory_.reset(made);
    input_.resize(count(engine.inputs.front()));
    input_name_ = engine.inputs.front().name.c_str();
    for (const TensorSpec& spec : engine.outputs) {
      outputs_.emplace_back(count(spec));
      output_names_.push_back(spec.name.c_str());
    }
    bind(engine.batch[1]);
  }

  uint8_t* input() noexcept override { return input_.data(); }

  const float* output(size_t index) const noexcept override { return outputs_[index].data(); }

  void run(int images) override {
    if (images != bound_) bind(images);
    const OrtValue* input = input_value_.get();
    ask("ONNX Runtime failed", get_api().Run(executor_.session(), nullptr, &input_name_, &input, 1, output_names_.data(),
                                             output_names_.size(), raw_outputs_.data()));
  }

 private:
  size_t count(const TensorSpec& spec) const {
    size_t values = static_cast<size_t>(executor_.engine().batch[2]);
    for (size_t i = 1; i < spec.shape.size(); ++i) values *= static_cast<size_t>(spec.shape[i]);
    return values;
  }

  Value make_value(void* data, size_t item, ONNXTensorElementDataType type, const TensorSpec& spec, int images) const {
    std::vector<int64_t> shape = spec.shape;
    shape[0] = images;
    size_t bytes = item;
    for (const int64_t side : shape) bytes *= static_cast<size_t>(side);
    OrtValue* made = nullptr;
    ask("ONNX Runtime takes no memory of ours", get_api().CreateTensorWithDataAsOrtValue(
                                                    memory_.get(), data, bytes, shape.data(), shape.size(), type, &made));
    return Value(made);
  }

  /// Tensors over the first images of our memory, which a call of the same size leaves as they are.
  void bind(int images) {
    const EngineRecord& engine = executor_.engine();
    bound_ = 0;
    output_values_.clear();
    raw_outputs_.clear();
    input_value_ = make_value(input_.data(), 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, engine.inputs.front(), images);
    for (size_t i = 0; i < outputs_.size(); ++i) {
      output_values_.push_back(make_value(outputs_[i].data(), sizeof(float), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                          engine.outputs[i], images));
      raw_outputs_.push_back(output_values_.back().get());
    }
    bound_ = images;
  }

  const OnnxRuntimeExecutor& executor_;
  HeldMemory memory_;
  int bound_ = 0;
  std::vector<uint8_t> input_;
  std::vector<std::vector<float>> outputs_;
  const char* input_name_ = nullptr;
  std::vector<const char*> output_names_;
  Value input_value_;
  std::vector<Value> output_values_;
  std::vector<OrtValue*> raw_outputs_;
};

std::unique_ptr<Request> OnnxRuntimeExecutor::make_request() { return std::make_unique<OnnxRuntimeRequest>(*this); }

std::unique_ptr<Executor> open(const Bundle& bundle, const EngineRecord& engine, const Keeping&) {
  return std::make_unique<OnnxRuntimeExecutor>(bundle, engine,
                                               read_settings(engine.settings, is_property, SettingsOf::cpu));
}

}  // namespace

const EngineLibrary onnxruntime_library{"onnxruntime",    read_version, find_mismatch,
                                        find_differences, describe_place, open};

}  // namespace edgevit::detail
