// The GPUs here, and whether an engine fits one of them; as edgevit/runtime/nvidia.py and tensorrt/open_plan.py.
#pragma once

#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/open_settings.hpp"
#include "engines/engines.hpp"
#include "engines/tensorrt/cuda.hpp"
#include "engines/tensorrt/library.hpp"

namespace edgevit::detail::trt {

struct Gpu {
  int index;
  std::string name, compute_capability;
  int multiprocessors;
};

inline std::vector<Gpu> read_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  std::vector<Gpu> gpus;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp found{};
    check_cuda("cudaGetDeviceProperties", cudaGetDeviceProperties(&found, i));
    gpus.push_back({i, found.name, std::to_string(found.major) + "." + std::to_string(found.minor), found.multiProcessorCount});
  }
  return gpus;
}

/// The very model that the engine is for, else one of its compute capability, else none.
inline std::optional<Gpu> choose_gpu(const std::vector<Gpu>& gpus, const std::optional<GpuRecord>& record) {
  std::optional<Gpu> fitting;
  for (const Gpu& gpu : gpus) {
    if (record && gpu.compute_capability != record->compute_capability) continue;
    if (record && record->name && *record->name == gpu.name) return gpu;
    if (!fitting) fitting = gpu;
  }
  return fitting;
}

inline std::string describe(const EngineRecord& engine) {
  if (!engine.gpu) return "an NVIDIA GPU";
  const std::string capability = "compute capability " + engine.gpu->compute_capability;
  return engine.gpu->name ? *engine.gpu->name + ", " + capability : "a GPU of " + capability;
}

inline std::string built_with(const EngineRecord& engine) {
  const auto built = engine.versions.find(name);
  return built != engine.versions.end() ? built->second : "";
}

inline std::optional<Mismatch> find_mismatch(const EngineRecord& engine) {
  const std::vector<Gpu> gpus = read_gpus();  // the driver is asked first: the library may end the process without one
  if (gpus.empty()) {
    return Mismatch{EDGEVIT_DEVICE, "the engine is for " + describe(engine) + ", and CUDA finds no GPU here",
                    "install the NVIDIA driver, or run on the device itself"};
  }
  const std::string built = built_with(engine), here = read_version();
  if (!built.empty() && parse_version(built, 3) != parse_version(here, 3)) {
    return Mismatch{EDGEVIT_LIBRARY,
                    "the plan was written by " + std::string(name) + " " + built + ", which " + name + " " + here +
                        " here does not read",
                    ""};
  }
  if (!choose_gpu(gpus, engine.gpu)) {
    std::string found;
    for (const Gpu& gpu : gpus) found += (found.empty() ? "" : ", ") + gpu.name + ", " + gpu.compute_capability;
    return Mismatch{EDGEVIT_DEVICE, "the engine is for " + describe(engine) + "; here: " + found, ""};
  }
  return std::nullopt;
}

inline std::vector<std::string> find_differences(const EngineRecord& engine) {
  std::vector<std::string> found;
  const std::string built = built_with(engine), here = read_version();
  if (built != here) {
    found.push_back("measured with " + std::string(name) + " " + (built.empty() ? "of unknown version" : built) +
                    "; here is " + here);
  }
  const std::optional<Gpu> gpu = choose_gpu(read_gpus(), engine.gpu);
  if (!engine.gpu || !engine.gpu->name || !gpu) return found;
  if (*engine.gpu->name != gpu->name) {
    found.push_back("compiled and measured on " + *engine.gpu->name + "; here is " + gpu->name);
  } else if (engine.gpu->multiprocessors && *engine.gpu->multiprocessors != gpu->multiprocessors) {
    found.push_back("compiled and measured on " + gpu->name + " with " + std::to_string(*engine.gpu->multiprocessors) +
                    " multiprocessors; here it has " + std::to_string(gpu->multiprocessors));
  }
  return found;
}

/// `550.54.14, CUDA 12.4`: the driver's own version where its kernel module tells it, and the CUDA that it serves.
inline std::string describe_driver() {
  int version = 0;
  check_cuda("cudaDriverGetVersion", cudaDriverGetVersion(&version));
  const std::string serves = "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  while (std::getline(file, line)) {
    const size_t module = line.find("Kernel Module");
    if (module == std::string::npos) continue;
    std::istringstream words(line.substr(module));
    for (std::string word; words >> word;) {
      const bool number = word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos;
      if (number && word.front() != '.' && word.back() != '.') return word + ", " + serves;
    }
  }
  return serves;
}

inline Place describe_place(const EngineRecord& engine, const Settings& settings) {
  Place place;
  place.backend = name;
  place.version = read_version();
  if (const auto gpu = choose_gpu(read_gpus(), engine.gpu)) {
    place.device = gpu->name + ", " + gpu->compute_capability + ", " + std::to_string(gpu->multiprocessors) + " multiprocessors";
  }
  place.driver = describe_driver();
  place.settings = select_settings(settings);
  return place;
}

}  // namespace edgevit::detail::trt
