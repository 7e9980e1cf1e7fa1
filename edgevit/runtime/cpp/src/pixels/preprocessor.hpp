// Preprocessor: resize, crop and pad, to the byte as `edgevit.pixels.preprocess.Preprocess.fit` in Python.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "edgevit/edgevit.h"

namespace edgevit::detail {

enum class Interpolation { nearest, box, bilinear, hamming, bicubic, lanczos };
enum class Resize { shortest, longest, squash, crop, pad, none, warp };
enum class Resampling { pillow, torch };
enum class CropRounding { round, floor };

/// The part of a manifest's `preprocess` that pixels depend on; normalisation is folded into the engine.
struct PreprocessOptions {
  int height = 0;
  int width = 0;
  Resize resize = Resize::none;
  int resize_height = 0;
  int resize_width = 0;
  Interpolation interpolation = Interpolation::bilinear;
  Resampling resampling = Resampling::pillow;
  CropRounding crop_rounding = CropRounding::round;
  std::array<uint8_t, 3> fill{0, 0, 0};
  bool antialias = true;
};

/// Memory of one thread's calls. It grows to the largest image that was seen, and is not allocated again after that.
struct PixelWorkspace {
  PixelWorkspace();
  ~PixelWorkspace();
  PixelWorkspace(PixelWorkspace&&) noexcept;
  PixelWorkspace& operator=(PixelWorkspace&&) noexcept;

  struct Parts;
  std::unique_ptr<Parts> parts;
};

class Preprocessor {
 public:
  explicit Preprocessor(const PreprocessOptions& options) : options_(options) {}

  /// Writes `height · width · 3` bytes, RGB, to `out`. Weights of a size that was seen before come from the workspace.
  ///
  /// Throws Failure: EDGEVIT_IMAGE for an image without pixels, of more than 2³⁰ bytes or an extreme strip,
  /// EDGEVIT_ARGUMENT for a stride, format or plane that is not possible.
  void apply(const edgevit_image& image, uint8_t* out, PixelWorkspace& workspace) const;

  const PreprocessOptions& options() const noexcept { return options_; }

 private:
  PreprocessOptions options_;
};

}  // namespace edgevit::detail
