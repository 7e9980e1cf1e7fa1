// Geometry: which part of an image is resized to what, which part of that is wanted, and where it goes.
#pragma once

#include <cstdint>

#include "pixels/preprocessor.hpp"

namespace edgevit::detail {

/// From and to which column and row.
struct Box {
  int left;
  int top;
  int right;
  int bottom;

  int width() const noexcept { return right - left; }
  int height() const noexcept { return bottom - top; }
};

struct Geometry {
  Box cut;     ///< of the image: what is resized
  int width;   ///< that the cut is resized to
  int height;  ///< likewise
  Box part;    ///< of the resized image: what is wanted
  int left;    ///< column of the result where the part begins
  int top;     ///< row of the result where the part begins

  bool resizes() const noexcept { return width != cut.width() || height != cut.height(); }
};

/// Sizes and offsets as Python's `Preprocess` has them, halves to even and all.
///
/// Throws Failure, EDGEVIT_IMAGE, where the resized image would have more than 89,478,485 pixels.
Geometry plan_geometry(const PreprocessOptions& options, int width, int height);

}  // namespace edgevit::detail
