// Which library this is, and the one logger that it gets in this process.
#pragma once

#include <NvInfer.h>

#include <mutex>
#include <string>

#include "failure.hpp"

namespace edgevit::detail::trt {

inline constexpr const char* rebuild = "build the bundle again on this machine";
#if defined(EDGEVIT_WITH_TENSORRT_RTX)
inline constexpr const char* name = "tensorrt_rtx";
#else
inline constexpr const char* name = "tensorrt";
#endif

inline std::string read_version() {
  return std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR) + "." +
         std::to_string(NV_TENSORRT_PATCH) + "." + std::to_string(NV_TENSORRT_BUILD);
}

/// The one logger of the process: the library keeps the first that it is given. What is no error is dropped.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity > Severity::kERROR) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (errors_.size() < 2000) errors_ += std::string("\n  ") + message;
  }
  /// The errors since the last call, each on an indented line of its own.
  std::string take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string taken;
    taken.swap(errors_);
    return taken.empty() ? "" : ":" + taken;
  }

 private:
  std::mutex mutex_;
  std::string errors_;
};

inline Log& get_log() {
  static auto* const log = new Log();
  return *log;
}

/// Throws Failure, EDGEVIT_DEVICE, with what the library said.
[[noreturn]] inline void fail(const std::string& what, const char* hint = rebuild) {
  throw Failure(EDGEVIT_DEVICE, what + get_log().take(), hint);
}

}  // namespace edgevit::detail::trt
