// Predictor: an opened bundle, which classifies or embeds images, or gives their features; as edgevit/runtime/predictor.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "core/answers.hpp"
#include "core/canary.hpp"
#include "core/session.hpp"
#include "edgevit/edgevit.h"

namespace edgevit::detail {

constexpr int most_outputs = 256;

struct OpenOptions {
  BundleOptions bundle;
  Settings settings;  // override the bundle's own
  CanaryOptions canary;
};

/// Several threads may call it at the same time. Nothing is allocated per call once as many threads have called.
class Predictor {
 public:
  /// Throws Failure with every code of docs/bundle.md.
  Predictor(const std::string& path, const OpenOptions& options);
  ~Predictor();

  /// Writes `k` classes an image, those of the next behind them; returns how many there are of each: k, or all.
  int classify(const edgevit_image* images, int count, int k, edgevit_class* classes);

  /// Embeddings one after the other. capacity: numbers that fit.
  void embed(const edgevit_image* images, int count, float* embeddings, size_t capacity);

  /// One buffer in host memory an output, (count, …) float32.
  void features(const edgevit_image* images, int count, const edgevit_buffer* outputs, int output_count);

  void preprocess(const edgevit_image& image, uint8_t* pixels, size_t capacity);

  /// Prepared pixels to all outputs, whatever the task.
  void run(const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs, int output_count);

  int rank(const float* logits, int k, edgevit_class* classes);

  const Manifest& manifest() const noexcept { return bundle_.manifest(); }
  const Session& session() const noexcept { return *session_; }
  const CanaryCheck& canary() const noexcept { return canary_; }
  const std::vector<std::string>& labels() const noexcept { return labels_; }
  const std::vector<std::string>& differences() const noexcept { return differences_; }
  const std::vector<std::string>& settings() const noexcept { return settings_; }
  const std::string& backend_version() const noexcept { return backend_version_; }

 private:
  void require(const char* task) const;
  int choose_count(int k) const;
  /// Prepares and computes up to the largest batch of images.
  void compute(Slot& slot, const edgevit_image* images, int count);
  void check_buffers(const edgevit_buffer* outputs, int output_count, int images) const;

  Bundle bundle_;
  Preprocessor preprocessor_;
  Scores scores_ = Scores::softmax;
  std::vector<std::string> labels_, differences_, settings_;
  std::string backend_version_;
  std::unique_ptr<Session> session_;
  CanaryCheck canary_;
};

}  // namespace edgevit::detail
