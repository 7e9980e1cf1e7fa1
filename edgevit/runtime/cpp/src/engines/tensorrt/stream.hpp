// One caller's part of a GPU session; as edgevit/runtime/tensorrt/stream.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/executor.hpp"
#include "core/open_settings.hpp"
#include "engines/tensorrt/cuda.hpp"
#include "engines/tensorrt/jit_cache.hpp"
#include "engines/tensorrt/plan.hpp"

namespace edgevit::detail::trt {

struct Buffer {
  std::string name;
  uint8_t* host;
  void* gpu;
  size_t image_bytes;
};

/// One caller's part: an execution context, a CUDA stream, and buffers for the largest batch. A batch of a size that was
/// computed before, without another in between, is launched as a CUDA graph.
class Stream : public Request {
 public:
  Stream(Plan& plan, JitCache& jit, int gpu, const OpenSettings& settings, bool block)
      : plan_(plan), gpu_(gpu), demanded_(settings.cuda_graph == true), graphs_(settings.cuda_graph != false) {
    activate();
    check_cuda("cudaStreamCreateWithFlags", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    holdings_.add([this] { cudaStreamDestroy(stream_); });
    const unsigned flags = cudaEventDisableTiming | (block ? cudaEventBlockingSync : 0U);
    check_cuda("cudaEventCreateWithFlags", cudaEventCreateWithFlags(&done_, flags));
    holdings_.add([this] { cudaEventDestroy(done_); });
    input_ = take(plan.engine.inputs.front(), 1);
    for (const TensorSpec& spec : plan.engine.outputs) outputs_.push_back(take(spec, sizeof(float)));
    get_log().take();
    context_ = jit.make_context(*plan.plan);
    if (context_ == nullptr) {
      fail(std::string(name) + " cannot make " + plan.file + " ready to run",
           "close other programs that use the GPU, open fewer streams, or build with a smaller largest --batch");
    }
    holdings_.add([this] {  // backwards: graphs use the context and the buffers, and work may be under way
      cudaStreamSynchronize(stream_);
      drop_graph();
      context_.reset();
    });
    context_->setNvtxVerbosity(nvinfer1::ProfilingVerbosity::kNONE);
    profile_ = context_->getOptimizationProfile();
    point_to_own();
  }
  ~Stream() override { static_cast<void>(cudaSetDevice(gpu_)); }

  uint8_t* input() noexcept override { return input_.host; }
  const float* output(size_t index) const noexcept override { return reinterpret_cast<const float*>(outputs_[index].host); }
  bool uses_graphs() const noexcept { return graphs_; }

  void run(int images) override {
    activate();
    if (images != size_) reshape(images);
    else if (graph_ == nullptr && graphs_ && calls_ > 0) capture();
    if (graph_ != nullptr) check_cuda("cudaGraphLaunch", cudaGraphLaunch(graph_, stream_));
    else enqueue();
    wait();
    ++calls_;
  }

  void run_in_place(const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs, size_t count) override {
    const auto check = [](const edgevit_buffer& buffer) {
      if (buffer.memory == EDGEVIT_OPENVINO) {
        throw Failure(EDGEVIT_ARGUMENT, "an OpenVINO tensor is given to " + std::string(name),
                      "give buffers of EDGEVIT_CUDA or EDGEVIT_HOST");
      }
    };
    check(pixels);
    for (size_t i = 0; i < count; ++i) check(outputs[i]);
    activate();
    if (images != size_) reshape(images);
    drop_graph();  // it has the addresses of our own buffers
    const auto bytes = [&](const Buffer& buffer) { return buffer.image_bytes * static_cast<size_t>(images); };
    try {
      if (pixels.memory == EDGEVIT_CUDA) ask("setTensorAddress", context_->setTensorAddress(input_.name.c_str(), pixels.data));
      else copy(input_.gpu, pixels.data, bytes(input_), cudaMemcpyHostToDevice);
      for (size_t i = 0; i < count; ++i) {
        void* place = outputs[i].memory == EDGEVIT_CUDA ? outputs[i].data : outputs_[i].gpu;
        ask("setTensorAddress", context_->setTensorAddress(outputs_[i].name.c_str(), place));
      }
      ask("enqueueV3", context_->enqueueV3(stream_));
      for (size_t i = 0; i < count; ++i) {
        if (outputs[i].memory == EDGEVIT_HOST) copy(outputs[i].data, outputs_[i].gpu, bytes(outputs_[i]), cudaMemcpyDeviceToHost);
      }
      wait();
    } catch (...) {
      cudaStreamSynchronize(stream_);
      point_to_own();
      throw;
    }
    point_to_own();
    calls_ = 0;
  }

 private:
  Buffer take(const TensorSpec& spec, size_t item) {
    size_t bytes = item;
    for (size_t i = 1; i < spec.shape.size(); ++i) bytes *= static_cast<size_t>(spec.shape[i]);
    const size_t whole = bytes * static_cast<size_t>(plan_.engine.batch[2]);
    return {spec.name, static_cast<uint8_t*>(holdings_.take_pinned(whole)), holdings_.take_gpu_memory(whole), bytes};
  }

  void activate() const { check_cuda("cudaSetDevice", cudaSetDevice(gpu_)); }

  /// The context says by false that it failed, and why in its log.
  static void ask(const char* call, bool succeeded) {
    if (!succeeded) {
      fail(std::string(name) + " failed in " + call,
           "close other programs that use the GPU; if that does not help, build the bundle again on this machine");
    }
  }

  void point_to_own() {
    ask("setTensorAddress", context_->setTensorAddress(input_.name.c_str(), input_.gpu));
    for (const Buffer& buffer : outputs_) ask("setTensorAddress", context_->setTensorAddress(buffer.name.c_str(), buffer.gpu));
  }

  void reshape(int images) {
    size_ = 0;  // should one of the next steps fail, the next call begins here again
    calls_ = 0;
    drop_graph();
    const int profile = plan_.choose_profile(images);
    if (profile != profile_) {
      ask("setOptimizationProfileAsync", context_->setOptimizationProfileAsync(profile, stream_));
      profile_ = profile;
    }
    nvinfer1::Dims shape{};
    const std::vector<int64_t>& sides = plan_.engine.inputs.front().shape;
    shape.nbDims = static_cast<int32_t>(sides.size());
    for (size_t i = 0; i < sides.size(); ++i) shape.d[i] = static_cast<decltype(+shape.d[0])>(i == 0 ? images : sides[i]);
    ask("setInputShape", context_->setInputShape(input_.name.c_str(), shape));
    size_ = images;
  }

  void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    check_cuda("cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, stream_));
  }

  void enqueue() {
    copy(input_.gpu, input_.host, input_.image_bytes * static_cast<size_t>(size_), cudaMemcpyHostToDevice);
    ask("enqueueV3", context_->enqueueV3(stream_));
    for (const Buffer& buffer : outputs_) {
      copy(buffer.host, buffer.gpu, buffer.image_bytes * static_cast<size_t>(size_), cudaMemcpyDeviceToHost);
    }
  }

  void wait() {
    check_cuda("cudaEventRecord", cudaEventRecord(done_, stream_));
    check_cuda("cudaEventSynchronize", cudaEventSynchronize(done_));
  }

  void capture() {
    try {
      // other threads may allocate meanwhile, which the global mode would count as a fault
      check_cuda("cudaStreamBeginCapture", cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
      cudaGraph_t graph = nullptr;
      try {
        enqueue();
      } catch (...) {
        if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
        throw;
      }
      check_cuda("cudaStreamEndCapture", cudaStreamEndCapture(stream_, &graph));
      const cudaError_t made = cudaGraphInstantiateWithFlags(&graph_, graph, 0);
      cudaGraphDestroy(graph);
      if (made != cudaSuccess) graph_ = nullptr;
      check_cuda("cudaGraphInstantiateWithFlags", made);
    } catch (const Failure&) {
      if (demanded_) throw;
      static_cast<void>(cudaGetLastError());
      graphs_ = false;
    }
  }

  void drop_graph() {
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
    graph_ = nullptr;
  }

  Plan& plan_;
  int gpu_;
  bool demanded_, graphs_;
  int size_ = 0, calls_ = 0, profile_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  Buffer input_{};
  std::vector<Buffer> outputs_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  Holdings holdings_;  // gives back first of all
};

}  // namespace edgevit::detail::trt
