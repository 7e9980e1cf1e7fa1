// CUDA's runtime: every status is checked, and what was taken is given back; as edgevit/runtime/cuda.py.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "failure.hpp"

namespace edgevit::detail {

inline const char* advise(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return "close other programs that use the GPU, open fewer streams, or build with a smaller largest --batch";
    case cudaErrorInsufficientDriver: return "update the NVIDIA driver, or build libedgevit with an older CUDA";
    case cudaErrorNoDevice: return "make the GPU visible: see CUDA_VISIBLE_DEVICES, and --gpus of a container";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
      return "the GPU's state is lost: start the program again, and build the bundle again if that does not help";
    default: return "check the GPU with nvidia-smi (on a Jetson with tegrastats), and start the program again";
  }
}

/// Throws Failure, EDGEVIT_DEVICE: the status is not success; with the call's name, CUDA's reason and what to do.
inline void check_cuda(const char* call, cudaError_t status) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // or the next call would report it once more
  throw Failure(EDGEVIT_DEVICE,
                std::string(call) + " failed: " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ")",
                advise(status));
}

/// What was taken, given back in the opposite order, also after an error half-way.
class Holdings {
 public:
  Holdings() = default;
  Holdings(const Holdings&) = delete;
  Holdings& operator=(const Holdings&) = delete;
  ~Holdings() {
    for (auto free = frees_.rbegin(); free != frees_.rend(); ++free) (*free)();
  }

  void add(std::function<void()> free) { frees_.push_back(std::move(free)); }

  void* take_gpu_memory(size_t size) {
    void* place = nullptr;
    check_cuda("cudaMalloc", cudaMalloc(&place, size));
    add([place] { cudaFree(place); });
    return place;
  }

  /// Page-locked memory, which the GPU reads and writes without a copy in between.
  void* take_pinned(size_t size) {
    void* place = nullptr;
    check_cuda("cudaMallocHost", cudaMallocHost(&place, size));
    add([place] { cudaFreeHost(place); });
    return place;
  }

 private:
  std::vector<std::function<void()>> frees_;
};

}  // namespace edgevit::detail
