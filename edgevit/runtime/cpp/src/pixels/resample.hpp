// Resizing as the references do it, to the last bit; only what the wanted part depends on is computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pixels/buffer.hpp"
#include "pixels/geometry.hpp"
#include "pixels/kernels.hpp"
#include "pixels/preprocessor.hpp"
#include "pixels/source.hpp"
#include "pixels/weights.hpp"

namespace edgevit::detail {

struct PixelWorkspace::Parts {
  const Kernels* kernels = &choose_kernels();
  WeightCache weights;
  RowWindow::Memory rows;   // of the image
  Buffer between;           // rows between two passes
  Buffer results;           // of the last pass, before they are copied to the caller's memory
  std::vector<const uint8_t*> pointers;
  std::vector<int> columns;   // of nearest and plain
  std::vector<int> lines;     // likewise
  std::vector<float> shares;  // of plain
};

/// Where the wanted part is written: its first byte, and `stride` bytes from a row to the next.
struct Destination {
  uint8_t* data;
  size_t stride;
};

/// Both passes of a resize with a filter that has weights: Pillow's or torch's.
void resample_filtered(const Source& source, const Geometry& geometry, Interpolation interpolation,
                       Resampling resampling, PixelWorkspace::Parts& parts, Destination to);

/// Pillow's resize to the nearest pixel.
void resample_nearest(const Source& source, const Geometry& geometry, PixelWorkspace::Parts& parts, Destination to);

/// Bilinear interpolation without antialiasing, as TensorFlow's and Keras' `resize` has it by default.
void resample_plain(const Source& source, const Geometry& geometry, PixelWorkspace::Parts& parts, Destination to);

}  // namespace edgevit::detail
