/* A double of CUDA's runtime for tests: the few calls that the library makes, with host memory in place of a GPU's. A stream
 * does at once what is queued on it; while it is captured, it records instead. The names and forms are those of CUDA. */
#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;

struct CudaDoubleGraph {
  std::vector<std::function<void()>> work;
};
struct CudaDoubleStream {
  bool capturing = false;
  CudaDoubleGraph graph;
  void queue(std::function<void()> work) {
    if (capturing) graph.work.push_back(std::move(work));
    else work();
  }
};
using cudaStream_t = CudaDoubleStream*;
using cudaEvent_t = int*;
using cudaGraph_t = CudaDoubleGraph*;
using cudaGraphExec_t = CudaDoubleGraph*;

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
};

/// What the machine is, by variables of the environment: EDGEVIT_DOUBLE_GPUS is how many GPUs there are.
inline cudaError_t cudaGetDeviceCount(int* count) {
  const char* told = std::getenv("EDGEVIT_DOUBLE_GPUS");
  *count = told != nullptr ? std::atoi(told) : 1;
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  std::strcpy(found->name, "Orin");
  found->major = 8, found->minor = 7, found->multiProcessorCount = 16;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 12060, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}
inline const char* cudaGetErrorString(cudaError_t) { return "of the double"; }
inline cudaError_t cudaMalloc(void** place, size_t size) {
  if (std::getenv("EDGEVIT_DOUBLE_NO_MEMORY") != nullptr) return cudaErrorMemoryAllocation;
  return *place = std::malloc(size), cudaSuccess;
}
inline cudaError_t cudaFree(void* place) { return std::free(place), cudaSuccess; }
inline cudaError_t cudaMallocHost(void** place, size_t size) { return *place = std::malloc(size), cudaSuccess; }
inline cudaError_t cudaFreeHost(void* place) { return std::free(place), cudaSuccess; }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = new CudaDoubleStream(), cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new int(), cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t stream) {
  stream->queue([=] { std::memcpy(to, from, size); });
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->capturing = true;
  stream->graph.work.clear();
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  stream->capturing = false;
  if (std::getenv("EDGEVIT_DOUBLE_NO_GRAPHS") != nullptr) return *graph = nullptr, cudaErrorStreamCaptureInvalidated;
  return *graph = new CudaDoubleGraph(stream->graph), cudaSuccess;
}
inline cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  return *made = new CudaDoubleGraph(*graph), cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (const auto& work : graph->work) work();
  return cudaSuccess;
}
