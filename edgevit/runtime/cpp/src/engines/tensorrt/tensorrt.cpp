// Opening plans of TensorRT (8.6, 10 and later) or TensorRT-RTX; as edgevit/runtime/tensorrt. Both have the same names, so
// that one libedgevit has one of them.
#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engines/engines.hpp"
#include "engines/tensorrt/gpus.hpp"
#include "engines/tensorrt/stream.hpp"

namespace edgevit::detail {
namespace trt {

constexpr int throughput_streams = 2;  // one batch is copied while another is computed

class TensorRTExecutor : public Executor {
 public:
  TensorRTExecutor(const Bundle& bundle, const EngineRecord& engine, const Keeping& keeping, const OpenSettings& settings)
      : plan_(activate(engine), bundle, engine),
        jit_(keeping, plan_.gpu.name, bundle.manifest().files.at(engine.files.front()).sha256) {
    const bool throughput = settings.hint == "throughput";
    streams_ = settings.streams.value_or(throughput ? throughput_streams : 1);
    const std::string waits = settings.wait.value_or(throughput ? "block" : "spin");
    bool graphs = true;
    for (int i = 0; i < streams_; ++i) {
      auto stream = std::make_unique<Stream>(plan_.plan, jit_, plan_.gpu.index, settings, waits == "block");
      const size_t bytes = count_input(engine);
      std::fill(stream->input(), stream->input() + bytes, uint8_t{0});
      for (int turn = 0; turn < 2; ++turn) stream->run(engine.batch[1]);  // kernels are loaded and a graph is recorded
      graphs = graphs && stream->uses_graphs();
      ready_.push_back(std::move(stream));
    }
    jit_.save();  // what a killed process would have compiled in vain
    settings_ = {{"hint", settings.hint},
                 {"streams", int64_t{streams_}},
                 {"cuda_graph", graphs},
                 {"wait", waits},
                 {"transfers", settings.transfers}};
  }
  ~TensorRTExecutor() override { jit_.save(); }

  std::unique_ptr<Request> make_request() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Request> made = std::move(ready_.back());
    ready_.pop_back();
    return made;
  }
  const Settings& settings() const noexcept override { return settings_; }
  int streams() const noexcept override { return streams_; }
  int most_requests() const noexcept override { return streams_; }

 private:
  struct Opened {
    Opened(Gpu found, const Bundle& bundle, const EngineRecord& engine) : gpu(std::move(found)), plan(bundle, engine) {}
    Gpu gpu;
    Plan plan;
  };

  static Gpu activate(const EngineRecord& engine) {
    const std::optional<Gpu> gpu = choose_gpu(read_gpus(), engine.gpu);
    if (!gpu) fail("the GPU that the engine is for is not here", "make it visible: see CUDA_VISIBLE_DEVICES");
    check_cuda("cudaSetDevice", cudaSetDevice(gpu->index));
    return *gpu;
  }

  static size_t count_input(const EngineRecord& engine) {
    size_t bytes = static_cast<size_t>(engine.batch[2]);
    for (size_t i = 1; i < engine.inputs.front().shape.size(); ++i) bytes *= static_cast<size_t>(engine.inputs.front().shape[i]);
    return bytes;
  }

  Opened plan_;
  JitCache jit_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Stream>> ready_;
  Settings settings_;
  int streams_ = 1;
};

std::unique_ptr<Executor> open(const Bundle& bundle, const EngineRecord& engine, const Keeping& keeping) {
  return std::make_unique<TensorRTExecutor>(bundle, engine, keeping,
                                            read_settings(engine.settings, nullptr, SettingsOf::gpu));
}

}  // namespace trt

#if defined(EDGEVIT_WITH_TENSORRT_RTX)
const EngineLibrary tensorrt_rtx_library{trt::name,         trt::read_version,   trt::find_mismatch,
                                     trt::find_differences, trt::describe_place, trt::open};
#else
const EngineLibrary tensorrt_library{trt::name,         trt::read_version,   trt::find_mismatch,
                                     trt::find_differences, trt::describe_place, trt::open};
#endif

}  // namespace edgevit::detail
