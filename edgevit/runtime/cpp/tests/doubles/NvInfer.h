/* A double of TensorRT's interface for tests: the few classes and calls that the library uses, with TensorRT's names and
 * forms. A plan is the text "double SIDE CLASSES LEAST BEST LARGEST"; its logits k are the sum of an image's bytes whose
 * number divided by CLASSES leaves k, divided by 1000. */
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#define NV_TENSORRT_MAJOR 10
#define NV_TENSORRT_MINOR 3
#define NV_TENSORRT_PATCH 0
#define NV_TENSORRT_BUILD 26

namespace nvinfer1 {

enum class DataType : int32_t { kFLOAT = 0, kUINT8 = 5 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
enum class OptProfileSelector : int32_t { kMIN = 0, kOPT = 1, kMAX = 2 };
enum class ProfilingVerbosity : int32_t { kLAYER_NAMES_ONLY = 0, kNONE = 1 };

struct Dims64 {
  int32_t nbDims;
  int64_t d[8];
};
using Dims = Dims64;

class ILogger {
 public:
  enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
  virtual void log(Severity severity, const char* message) noexcept = 0;
  virtual ~ILogger() = default;
};

struct DoublePlan {
  int side = 0, classes = 0, least = 0, best = 0, largest = 0;
};

class IExecutionContext {
 public:
  IExecutionContext(const DoublePlan& plan, ILogger& log) : plan_(plan), log_(log) {}
  virtual ~IExecutionContext() = default;
  void setNvtxVerbosity(ProfilingVerbosity) noexcept {}
  int32_t getOptimizationProfile() const noexcept { return 0; }
  bool setOptimizationProfileAsync(int32_t, cudaStream_t) noexcept { return true; }
  bool setTensorAddress(const char* name, void* place) noexcept { return places_[name] = place, true; }
  bool setInputShape(const char*, const Dims& shape) noexcept {
    images_ = static_cast<int>(shape.d[0]);
    const bool fits = shape.nbDims == 4 && images_ >= plan_.least && images_ <= plan_.largest && shape.d[1] == plan_.side;
    if (!fits) log_.log(ILogger::Severity::kERROR, "the shape is outside the profile");
    return fits;
  }
  bool enqueueV3(cudaStream_t stream) noexcept {
    const auto* pixels = static_cast<const uint8_t*>(places_["image"]);
    auto* logits = static_cast<float*>(places_["logits"]);
    stream->queue([=, plan = plan_, images = images_] {
      const int size = plan.side * plan.side * 3;
      for (int image = 0; image < images; ++image) {
        for (int k = 0; k < plan.classes; ++k) {
          double sum = 0;
          for (int i = k; i < size; i += plan.classes) sum += pixels[image * size + i];
          logits[image * plan.classes + k] = static_cast<float>(sum / 1000);
        }
      }
    });
    return true;
  }

 private:
  DoublePlan plan_;
  ILogger& log_;
  int images_ = 0;
  std::map<std::string, void*> places_;
};

class ICudaEngine {
 public:
  ICudaEngine(const DoublePlan& plan, ILogger& log) : plan_(plan), log_(log) {}
  virtual ~ICudaEngine() = default;
  int32_t getNbIOTensors() const noexcept { return 2; }
  TensorIOMode getTensorIOMode(const char* name) const noexcept {
    if (std::strcmp(name, "image") == 0) return TensorIOMode::kINPUT;
    return std::strcmp(name, "logits") == 0 ? TensorIOMode::kOUTPUT : TensorIOMode::kNONE;
  }
  DataType getTensorDataType(const char* name) const noexcept {
    return std::strcmp(name, "image") == 0 ? DataType::kUINT8 : DataType::kFLOAT;
  }
  Dims getTensorShape(const char* name) const noexcept {
    if (std::strcmp(name, "image") == 0) return {4, {-1, plan_.side, plan_.side, 3}};
    return {2, {-1, plan_.classes}};
  }
  int32_t getNbOptimizationProfiles() const noexcept { return 1; }
  Dims getProfileShape(const char*, int32_t, OptProfileSelector which) const noexcept {
    const int sizes[] = {plan_.least, plan_.best, plan_.largest};
    return {4, {sizes[static_cast<int>(which)], plan_.side, plan_.side, 3}};
  }
  IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext(plan_, log_); }

 private:
  DoublePlan plan_;
  ILogger& log_;
};

class IRuntime {
 public:
  explicit IRuntime(ILogger& log) : log_(log) {}
  virtual ~IRuntime() = default;
  ICudaEngine* deserializeCudaEngine(const void* data, size_t size) noexcept {
    const std::string text(static_cast<const char*>(data), size);
    DoublePlan plan;
    if (std::sscanf(text.c_str(), "double %d %d %d %d %d", &plan.side, &plan.classes, &plan.least, &plan.best,
                    &plan.largest) == 5) {
      return new ICudaEngine(plan, log_);
    }
    log_.log(ILogger::Severity::kERROR, "the magic number does not fit");
    return nullptr;
  }

 private:
  ILogger& log_;
};

inline IRuntime* createInferRuntime(ILogger& log) noexcept { return new IRuntime(log); }

}  // namespace nvinfer1
