// Scalar kernels, of which the others take the last pixels of a row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgevit::detail {

/// ITU-R BT.601, limited range: Y from 16 to 235, U and V from 16 to 240. The factors have 13 fractional bits; a sum is
/// rounded once, halves up, and is off the formula in real numbers by less than 0.51.
namespace bt601 {
constexpr int kBits = 13;
constexpr int kHalf = 1 << (kBits - 1);
constexpr int kLuma = 9539;      // 255 / 219
constexpr int kRedV = 13075;     // 255 / 224 · 2 · (1 - 0.299)
constexpr int kGreenU = -3209;   // 255 / 224 · -2 · (1 - 0.114) · 0.114 / 0.587
constexpr int kGreenV = -6660;   // 255 / 224 · -2 · (1 - 0.299) · 0.299 / 0.587
constexpr int kBlueU = 16525;    // 255 / 224 · 2 · (1 - 0.114)
}  // namespace bt601

constexpr uint8_t clip_byte(int32_t value) {
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

/// `Size` bytes a pixel, red at `Red`, blue at `Blue` and green between them.
template <int Size, int Red, int Blue>
void reorder_scalar(const uint8_t* row, size_t pixels, uint8_t* to) {
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t red = row[i * Size + Red];
    const uint8_t green = row[i * Size + (Red + Blue) / 2];
    const uint8_t blue = row[i * Size + Blue];
    to[i * 3] = red;
    to[i * 3 + 1] = green;
    to[i * 3 + 2] = blue;
  }
}

void convert_yuv_scalar(const uint8_t* y, const uint8_t* u, const uint8_t* v, size_t step, size_t pixels, uint8_t* to);

}  // namespace edgevit::detail
