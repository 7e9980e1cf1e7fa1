// Kernels that TensorRT-RTX compiled, kept in the user's cache; as edgevit/runtime/tensorrt/jit_cache.py.
#pragma once

#include <cctype>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/cache.hpp"
#include "engines/engines.hpp"
#include "engines/tensorrt/library.hpp"

namespace edgevit::detail::trt {

#if defined(EDGEVIT_WITH_TENSORRT_RTX)
/// Kernels that TensorRT-RTX compiled for this GPU; the file is Python's too.
class JitCache {
 public:
  JitCache(const Keeping& keeping, const std::string& gpu, const std::string& digest) {
    std::string label;
    for (const char letter : read_version() + "-" + gpu) {
      const bool plain = std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '.';
      if (plain) label += letter;
      else if (!label.empty() && label.back() != '-') label += '-';
    }
    while (!label.empty() && label.back() == '-') label.pop_back();
    file_ = label + "-" + digest.substr(0, 16) + ".bin";
    if (keeping.keep) root_ = find_cache(keeping.cache_folder);
  }

  std::unique_ptr<nvinfer1::IExecutionContext> make_context(nvinfer1::ICudaEngine& plan) {
    const std::unique_ptr<nvinfer1::IRuntimeConfig> config(plan.createRuntimeConfig());
    // a batch's first call compiles all of it; otherwise latency would change under way, and a graph keep the worse
    config->setDynamicShapesKernelSpecializationStrategy(nvinfer1::DynamicShapesKernelSpecializationStrategy::kEAGER);
    if (cache_ == nullptr) {
      cache_.reset(config->createRuntimeCache());
      const auto kept = root_ ? read_cache(*root_ / folder_ / file_, size_t{1} << 30) : std::nullopt;
      if (kept && cache_->deserialize(kept->data(), kept->size())) loaded_ = *kept;
    }
    config->setRuntimeCache(*cache_);
    return std::unique_ptr<nvinfer1::IExecutionContext>(plan.createExecutionContext(config.get()));
  }

  void save() {
    if (!root_ || cache_ == nullptr) return;
    const std::unique_ptr<nvinfer1::IHostMemory> kernels(cache_->serialize());
    if (kernels == nullptr || kernels->size() == 0) return;
    const std::string_view content(static_cast<const char*>(kernels->data()), kernels->size());
    if (content == loaded_) return;
    CacheRules rules;
    rules.most_files = 64;
    rules.is_own = [](const std::string& found) {
      return found.size() > 21 && std::isdigit(static_cast<unsigned char>(found[0])) != 0 &&
             found.compare(found.size() - 4, 4, ".bin") == 0;
    };
    write_cache(*root_, folder_, file_, {content}, rules);
  }

 private:
  std::filesystem::path folder_ = "tensorrt_rtx/kernels";
  std::optional<std::filesystem::path> root_;
  std::string file_, loaded_;
  std::unique_ptr<nvinfer1::IRuntimeCache> cache_;
};
#else
/// TensorRT's plans hold finished kernels.
class JitCache {
 public:
  JitCache(const Keeping&, const std::string&, const std::string&) {}
  std::unique_ptr<nvinfer1::IExecutionContext> make_context(nvinfer1::ICudaEngine& plan) {
    return std::unique_ptr<nvinfer1::IExecutionContext>(plan.createExecutionContext());
  }
  void save() {}
};
#endif

}  // namespace edgevit::detail::trt
