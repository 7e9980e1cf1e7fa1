// Opening OpenVINO's engines; as edgevit/runtime/openvino.py.
#include <openvino/openvino.hpp>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>

#include "core/compiled.hpp"
#include "core/cores.hpp"
#include "core/open_settings.hpp"
#include "core/processor.hpp"
#include "engines/engines.hpp"

namespace edgevit::detail {
namespace {

constexpr int most_requests = 256;

/// The process's one core. It is never freed: engines may outlive static objects, and plugins end with the process.
ov::Core& get_core() {
  static auto* const core = new ov::Core();
  return *core;
}

std::string read_version() { return ov::get_openvino_version().buildNumber; }

bool has_property(const std::string& device, const std::string& name) {
  const auto names = get_core().get_property(device, ov::supported_properties);
  return std::any_of(names.begin(), names.end(), [&](const ov::PropertyName& found) { return found == name; });
}

std::optional<std::string> read_text(const std::string& device, const std::string& name) {
  try {
    if (!has_property(device, name)) return std::nullopt;
    std::string text = get_core().get_property(device, name).as<std::string>();
    text.erase(0, text.find_first_not_of(" \t\n"));
    text.erase(text.find_last_not_of(" \t\n") + 1);
    return text.empty() ? std::nullopt : std::optional(text);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

/// Only the device's own plugin is loaded: a list of all devices would load those of GPU and NPU too.
bool has_device(const std::string& device) {
  try {
    get_core().get_property(device, ov::supported_properties);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::string list_devices() {
  std::string names;
  for (const std::string& name : get_core().get_available_devices()) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none" : names;
}

/// Every AVX-512 is enough for bfloat16: OpenVINO widens it where it has to, and is right, if not fast.
bool computes(const std::string& tier, const std::string& floats) {
  if (floats == "f16") return has_f16(tier);
  return has_bf16(tier) || tier.rfind("avx512", 0) == 0;
}

std::optional<Mismatch> find_mismatch(const EngineRecord& engine) {
  if (!has_device(engine.device)) {
    return Mismatch{EDGEVIT_DEVICE, "the engine is for OpenVINO's device " + engine.device + "; here: " + list_devices(), ""};
  }
  const auto precision = engine.settings.find("inference_precision");
  const std::string floats = precision != engine.settings.end() ? show(precision->second) : "";
  const std::optional<std::string> tier = read_tier();
  if (engine.device == "CPU" && (floats == "bf16" || floats == "f16") && tier && !computes(*tier, floats)) {
    return Mismatch{EDGEVIT_DEVICE,
                    "the engine computes in " + floats + ", of which this processor (" + name_tier(*tier) + ") has no products",
                    "open it with the setting inference_precision=f32, or build a bundle for this processor"};
  }
  const auto built = engine.versions.find("openvino");
  const std::string version = built != engine.versions.end() ? built->second : "0", here = read_version();
  // OpenVINO reads what its earlier releases wrote, and does not promise the reverse
  if (parse_version(here) < parse_version(version)) {
    return Mismatch{EDGEVIT_LIBRARY, "the engine was written by OpenVINO " + version + "; here is the older " + here, ""};
  }
  return std::nullopt;
}

std::vector<std::string> find_differences(const EngineRecord& engine) {
  const auto built = engine.versions.find("openvino");
  const std::string here = read_version(), version = built != engine.versions.end() ? built->second : "";
  if (version == here) return {};
  return {"measured with OpenVINO " + (version.empty() ? "of unknown version" : version) + "; here is " + here};
}

Place describe_place(const EngineRecord& engine, const Settings& settings) {
  Place place;
  place.backend = "openvino";
  place.version = read_version();
  place.device = read_text(engine.device, "FULL_DEVICE_NAME");
  if (engine.device == "CPU") place.instruction_set = read_tier();
  place.driver = read_text(engine.device, "GPU_DRIVER_VERSION");
  place.settings = select_settings(settings);
  return place;
}

/// OpenVINO's own properties are in capitals.
bool is_property(const std::string& key) {
  const auto lower = [](unsigned char letter) { return std::islower(letter) != 0; };
  const auto upper = [](unsigned char letter) { return std::isupper(letter) != 0; };
  return std::none_of(key.begin(), key.end(), lower) && std::any_of(key.begin(), key.end(), upper);
}

ov::AnyMap build_config(const OpenSettings& settings, const std::string& device) {
  std::string hint = settings.hint;
  std::transform(hint.begin(), hint.end(), hint.begin(), [](unsigned char letter) { return std::toupper(letter); });
  ov::AnyMap config{{"PERFORMANCE_HINT", hint}};
  if (settings.inference_precision) config["INFERENCE_PRECISION_HINT"] = *settings.inference_precision;
  if (settings.streams) config["NUM_STREAMS"] = std::to_string(*settings.streams);
  if (device == "CPU") {
    std::optional<int> threads = settings.threads;
    const int physical = count_physical_cores();
    // OpenVINO would leave the second thread of each core idle
    if (!threads && settings.hint == "latency" && physical <= 2) threads = choose_threads();
    if (threads) {
      config["INFERENCE_NUM_THREADS"] = *threads;
      if (*threads > physical && *threads <= count_logical_cores()) config["ENABLE_HYPER_THREADING"] = true;
    }
  }
  for (const auto& [key, value] : settings.properties) {
    std::visit([&config, name = key](const auto& held) { config[name] = held; }, value);
  }
  return config;
}

std::optional<int> read_count(const ov::CompiledModel& compiled, const std::string& name) {
  const auto names = compiled.get_property(ov::supported_properties);
  if (std::none_of(names.begin(), names.end(), [&](const auto& found) { return found == name; })) return std::nullopt;
  return std::stoi(compiled.get_property(name).as<std::string>());
}

std::vector<int64_t> read_shape(const ov::Output<const ov::Node>& port) {
  std::vector<int64_t> shape;
  for (const ov::Dimension& side : port.get_partial_shape()) shape.push_back(side.is_static() ? side.get_length() : -1);
  return shape;
}

/// Runs something of OpenVINO's, and says what it said.
template <typename F>
auto ask(std::string_view what, F&& call) {
  try {
    return call();
  } catch (const Failure&) {
    throw;
  } catch (const std::exception& exc) {
    throw Failure(EDGEVIT_DEVICE, std::string(what) + ": " + exc.what(), advise(exc.what()));
  }
}

class OpenVINORequest : public Request {
 public:
  OpenVINORequest(ov::CompiledModel& compiled, const EngineRecord& engine)
      : request_(compiled.create_infer_request()), largest_(engine.batch[2]) {
    input_ = make_tensor(ov::element::u8, engine.inputs.front());
    for (const TensorSpec& spec : engine.outputs) outputs_.push_back(make_tensor(ov::element::f32, spec));
    bind(engine.batch[1]);
  }

  uint8_t* input() noexcept override { return static_cast<uint8_t*>(input_.data()); }

  const float* output(size_t index) const noexcept override { return static_cast<const float*>(outputs_[index].data()); }

  void run(int images) override {
    ask("OpenVINO failed", [&] {
      if (images != bound_) bind(images);
      request_.infer();
    });
  }

  void run_in_place(const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs, size_t count) override {
    const auto wrap = [&](const edgevit_buffer& buffer, const ov::Tensor& own) {
      if (buffer.memory == EDGEVIT_OPENVINO) return *static_cast<ov::Tensor*>(buffer.data);
      if (buffer.memory != EDGEVIT_HOST) {
        throw Failure(EDGEVIT_ARGUMENT, "OpenVINO takes host memory and its own tensors",
                      "give buffers of EDGEVIT_HOST or EDGEVIT_OPENVINO");
      }
      return ov::Tensor(own.get_element_type(), with_batch(own.get_shape(), images), buffer.data);
    };
    ask("OpenVINO failed", [&] {
      bound_ = 0;
      request_.set_input_tensor(wrap(pixels, input_));
      for (size_t i = 0; i < count; ++i) request_.set_output_tensor(i, wrap(outputs[i], outputs_[i]));
      request_.infer();
    });
    ask("OpenVINO failed", [&] { bind(images); });  // nothing keeps a pointer to the caller's memory
  }

 private:
  static ov::Shape with_batch(ov::Shape shape, int images) {
    shape[0] = static_cast<size_t>(images);
    return shape;
  }

  ov::Tensor make_tensor(ov::element::Type type, const TensorSpec& spec) const {
    ov::Shape shape{static_cast<size_t>(largest_)};
    for (size_t i = 1; i < spec.shape.size(); ++i) shape.push_back(static_cast<size_t>(spec.shape[i]));
    return ov::Tensor(type, shape);
  }

  /// The request reads and writes the first images of our tensors, which a call of the same size leaves as it is.
  void bind(int images) {
    bound_ = 0;  // should a step fail, the next call begins here again
    const auto part = [images](ov::Tensor& tensor) {
      return ov::Tensor(tensor.get_element_type(), with_batch(tensor.get_shape(), images), tensor.data());
    };
    request_.set_input_tensor(part(input_));
    for (size_t i = 0; i < outputs_.size(); ++i) request_.set_output_tensor(i, part(outputs_[i]));
    bound_ = images;
  }

  ov::InferRequest request_;
  int largest_, bound_ = 0;
  ov::Tensor input_;
  std::vector<ov::Tensor> outputs_;
};

class OpenVINOExecutor : public Executor {
 public:
  OpenVINOExecutor(const Bundle& bundle, const EngineRecord& engine, const Keeping& keeping, const OpenSettings& settings)
      : engine_(engine), file_(bundle.path() + "/" + engine.files.front()) {
    try {
      compile(bundle, build_config(settings, engine.device), keeping);
      streams_ = std::max(1, read_count(compiled_, "OPTIMAL_NUMBER_OF_INFER_REQUESTS").value_or(1));
      describe(settings);
    } catch (const Failure&) {
      throw;
    } catch (const std::exception& exc) {
      const bool old = engine.device == "CPU" && read_tier() == "sse4.1";
      throw Failure(EDGEVIT_DEVICE, "OpenVINO cannot open " + file_ + " on " + engine.device + ": " + exc.what(),
                    old ? "OpenVINO has no kernels of a LayerNorm for no more than SSE4.1: take a processor with AVX or newer"
                        : advise(exc.what()));
    }
    PortShapes inputs, outputs;
    for (const auto& port : compiled_.inputs()) inputs.push_back(read_shape(port));
    for (const auto& port : compiled_.outputs()) outputs.push_back(read_shape(port));
    check_ports(bundle, engine, inputs, outputs);
  }

  std::unique_ptr<Request> make_request() override {
    return ask("OpenVINO makes no request for " + file_,
               [&]() -> std::unique_ptr<Request> { return std::make_unique<OpenVINORequest>(compiled_, engine_); });
  }

  const Settings& settings() const noexcept override { return settings_; }
  int streams() const noexcept override { return streams_; }
  int most_requests() const noexcept override { return edgevit::detail::most_requests; }

 private:
  /// From what was kept of an earlier start, where there is such a thing, or from the bundle's files.
  void compile(const Bundle& bundle, const ov::AnyMap& config, const Keeping& keeping) {
    const std::optional<std::string> key = keeping.keep ? make_key(bundle, config) : std::nullopt;
    if (key) memory_ = read_compiled(keeping.cache_folder, *key);
    if (memory_ != nullptr) {
      try {
        compiled_ = get_core().import_model(wrap(*memory_), engine_.device, config);
        return;
      } catch (const std::exception&) {  // of another processor, as OpenVINO sees it
        memory_.reset();
      }
    }
    compiled_ = get_core().compile_model(read_model(bundle), engine_.device, config);
    uint64_t size = 0;
    for (const std::string& name : engine_.files) size += bundle.manifest().files.at(name).size_bytes;
    if (!key || !can_keep(keeping.cache_folder, *key, size)) return;
    try {
      std::ostringstream stream;
      compiled_.export_model(stream);
      write_compiled(keeping.cache_folder, *key, stream.str());
    } catch (const std::exception&) {  // not every graph can be written
    }
  }

  /// On other devices than a CPU nobody tried whether what was kept answers the same.
  std::optional<std::string> make_key(const Bundle& bundle, const ov::AnyMap& config) const {
    if (engine_.device != "CPU" || config.count("CACHE_DIR") != 0) return std::nullopt;
    CompiledKey key;
    key.backend = "openvino";
    key.version = read_version();
    key.device = engine_.device;
    key.processor = read_text(engine_.device, "FULL_DEVICE_NAME");
    key.instruction_set = read_tier();
    for (const std::string& name : engine_.files) key.files.emplace_back(name, bundle.manifest().files.at(name).sha256);
    for (const auto& [name, value] : config) {
      key.properties[name] = value.is<bool>() ? (value.as<bool>() ? "true" : "false") : value.as<std::string>();
    }
    return write_key(key);
  }

  std::shared_ptr<ov::Model> read_model(const Bundle& bundle) {
    const std::shared_ptr<const Bytes> xml = bundle.map(engine_.files.front());
    const std::string text(reinterpret_cast<const char*>(xml->data()), xml->size());
    const std::string weights = engine_.files.front().substr(0, engine_.files.front().rfind('.')) + ".bin";
    if (std::find(engine_.files.begin(), engine_.files.end(), weights) == engine_.files.end()) {
      return get_core().read_model(text, ov::Tensor());
    }
    memory_ = bundle.map(weights);
    return get_core().read_model(text, wrap(*memory_));
  }

  /// OpenVINO reads it where it is mapped, and never writes there.
  static ov::Tensor wrap(const Bytes& bytes) {
    return ov::Tensor(ov::element::u8, {bytes.size()}, const_cast<uint8_t*>(bytes.data()));
  }

  void describe(const OpenSettings& settings) {
    settings_ = settings.properties;
    settings_["hint"] = settings.hint;
    if (const auto threads = read_count(compiled_, "INFERENCE_NUM_THREADS")) settings_["threads"] = int64_t{*threads};
    if (const auto streams = read_count(compiled_, "NUM_STREAMS")) settings_["streams"] = int64_t{*streams};
    const auto names = compiled_.get_property(ov::supported_properties);
    if (std::find(names.begin(), names.end(), "INFERENCE_PRECISION_HINT") != names.end()) {
      settings_["inference_precision"] = compiled_.get_property(ov::hint::inference_precision).get_type_name();
    }
  }

  EngineRecord engine_;
  std::string file_;
  std::shared_ptr<const Bytes> memory_;  // mapped for as long as the model that reads it lives
  ov::CompiledModel compiled_;
  Settings settings_;
  int streams_ = 1;
};

std::unique_ptr<Executor> open(const Bundle& bundle, const EngineRecord& engine, const Keeping& keeping) {
  return std::make_unique<OpenVINOExecutor>(bundle, engine, keeping,
                                            read_settings(engine.settings, is_property, SettingsOf::cpu));
}

}  // namespace

const EngineLibrary openvino_library{"openvino", read_version, find_mismatch, find_differences, describe_place, open};

}  // namespace edgevit::detail
