#include "pixels/scalar.hpp"

#include "pixels/kernels.hpp"

namespace edgevit::detail {
namespace {

void pass_across(const Weights& weights, const uint8_t* const rows[kRows], uint8_t* const to[kRows]) {
  const int32_t half = 1 << (weights.precision - 1);
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < weights.outputs; ++i) {
      const int32_t* factors = weights.of<int32_t>(i);
      const uint8_t* pixel = rows[row] + static_cast<size_t>(weights.starts[i]) * 3;
      int32_t red = half;
      int32_t green = half;
      int32_t blue = half;
      for (int k = 0; k < weights.taps; ++k, pixel += 3) {
        red += pixel[0] * factors[k];
        green += pixel[1] * factors[k];
        blue += pixel[2] * factors[k];
      }
      to[row][i * 3] = clip_byte(red >> weights.precision);
      to[row][i * 3 + 1] = clip_byte(green >> weights.precision);
      to[row][i * 3 + 2] = clip_byte(blue >> weights.precision);
    }
  }
}

void pass_down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  constexpr size_t kBlock = 16;
  const int32_t* factors = weights.of<int32_t>(output);
  for (size_t at = 0; at < bytes; at += kBlock) {  // to the end of a block: there is slack
    int32_t sums[kBlock];
    for (int32_t& sum : sums) sum = 1 << (weights.precision - 1);
    for (int k = 0; k < weights.taps; ++k) {
      for (size_t i = 0; i < kBlock; ++i) sums[i] += rows[k][at + i] * factors[k];
    }
    for (size_t i = 0; i < kBlock; ++i) to[at + i] = clip_byte(sums[i] >> weights.precision);
  }
}

}  // namespace

void convert_yuv_scalar(const uint8_t* y, const uint8_t* u, const uint8_t* v, size_t step, size_t pixels, uint8_t* to) {
  using namespace bt601;
  for (size_t i = 0; i < pixels; ++i) {
    const int32_t luma = kLuma * (y[i] - 16) + kHalf;
    const int32_t from_u = u[i / 2 * step] - 128;
    const int32_t from_v = v[i / 2 * step] - 128;
    to[i * 3] = clip_byte((luma + kRedV * from_v) >> kBits);
    to[i * 3 + 1] = clip_byte((luma + kGreenU * from_u + kGreenV * from_v) >> kBits);
    to[i * 3 + 2] = clip_byte((luma + kBlueU * from_u) >> kBits);
  }
}

const Kernels kScalarKernels = {
    "scalar",
    1,
    32,
    pass_across,
    pass_down,
    reorder_scalar<3, 2, 0>,
    reorder_scalar<4, 0, 2>,
    reorder_scalar<4, 2, 0>,
    reorder_scalar<1, 0, 0>,
    convert_yuv_scalar,
};

}  // namespace edgevit::detail
