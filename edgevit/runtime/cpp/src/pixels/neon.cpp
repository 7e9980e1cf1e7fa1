// Arm: SMLAL multiplies eight taps by 16-bit digits.
#include "pixels/kernels.hpp"

#if defined(EDGEVIT_NEON_KERNELS)
#include <arm_neon.h>

#include "pixels/scalar.hpp"

namespace edgevit::detail {
namespace {

inline int16x8_t widen(uint8x8_t bytes) { return vreinterpretq_s16_u16(vmovl_u8(bytes)); }

inline int32x4_t multiply_add(int32x4_t sum, int16x8_t a, int16x8_t b) {
  return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b);
}

template <int Digits>
void across(const Weights& weights, const uint8_t* const* rows, uint8_t* const* to) {
  const int32_t half = 1 << (weights.precision - 1);
  const int taps = weights.taps;
  for (int row = 0; row < kRows; ++row) {
    for (int output = 0; output < weights.outputs; ++output) {
      const int16_t* digits = weights.of<int16_t>(output);
      const uint8_t* pixels = rows[row] + static_cast<ptrdiff_t>(weights.starts[output]) * 3;
      int32x4_t sums[3][Digits];
      for (auto& colour : sums) {
        for (int32x4_t& sum : colour) sum = vdupq_n_s32(0);
      }
      for (int k = 0; k < taps; k += 8, pixels += 24) {
        const uint8x8x3_t eight = vld3_u8(pixels);
        for (int d = 0; d < Digits; ++d) {
          const int16x8_t factors = vld1q_s16(digits + d * taps + k);
          for (int c = 0; c < 3; ++c) sums[c][d] = multiply_add(sums[c][d], widen(eight.val[c]), factors);
        }
      }
      for (int c = 0; c < 3; ++c) {
        auto total = static_cast<uint32_t>(half) + static_cast<uint32_t>(vaddvq_s32(sums[c][0]));
        if (Digits == 2) total += static_cast<uint32_t>(vaddvq_s32(sums[c][Digits - 1])) << 16;
        to[row][output * 3 + c] = clip_byte(static_cast<int32_t>(total) >> weights.precision);
      }
    }
  }
}

template <int Digits>
inline uint16x4_t finish(const int32x4_t* sums, int precision) {
  int32x4_t total = vaddq_s32(sums[0], vdupq_n_s32(1 << (precision - 1)));
  if (Digits == 2) total = vaddq_s32(total, vshlq_n_s32(sums[Digits - 1], 16));
  return vqmovun_s32(vshlq_s32(total, vdupq_n_s32(-precision)));
}

template <int Digits>
void down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  const int16_t* digits = weights.of<int16_t>(output);
  for (size_t at = 0; at < bytes; at += 16) {
    int32x4_t sums[4][Digits];
    for (auto& lane : sums) {
      for (int32x4_t& sum : lane) sum = vdupq_n_s32(0);
    }
    for (int k = 0; k < weights.taps; ++k) {
      const uint8x16_t line = vld1q_u8(rows[k] + at);
      const int16x8_t low = widen(vget_low_u8(line));
      const int16x8_t high = widen(vget_high_u8(line));
      for (int d = 0; d < Digits; ++d) {
        const int16_t factor = digits[d * weights.taps + k];
        sums[0][d] = vmlal_n_s16(sums[0][d], vget_low_s16(low), factor);
        sums[1][d] = vmlal_n_s16(sums[1][d], vget_high_s16(low), factor);
        sums[2][d] = vmlal_n_s16(sums[2][d], vget_low_s16(high), factor);
        sums[3][d] = vmlal_n_s16(sums[3][d], vget_high_s16(high), factor);
      }
    }
    const int precision = weights.precision;
    const uint16x8_t low = vcombine_u16(finish<Digits>(sums[0], precision), finish<Digits>(sums[1], precision));
    const uint16x8_t high = vcombine_u16(finish<Digits>(sums[2], precision), finish<Digits>(sums[3], precision));
    vst1q_u8(to + at, vcombine_u8(vqmovn_u16(low), vqmovn_u16(high)));
  }
}

void pass_across(const Weights& weights, const uint8_t* const rows[kRows], uint8_t* const to[kRows]) {
  (weights.digits == 1 ? across<1> : across<2>)(weights, rows, to);
}

void pass_down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  (weights.digits == 1 ? down<1> : down<2>)(weights, output, rows, bytes, to);
}

template <int Red, int Blue>
void reorder_four(const uint8_t* row, size_t pixels, uint8_t* to) {
  size_t at = 0;
  for (; at + 16 <= pixels; at += 16) {
    const uint8x16x4_t four = vld4q_u8(row + at * 4);
    vst3q_u8(to + at * 3, (uint8x16x3_t{{four.val[Red], four.val[1], four.val[Blue]}}));
  }
  reorder_scalar<4, Red, Blue>(row + at * 4, pixels - at, to + at * 3);
}

void convert_bgr(const uint8_t* row, size_t pixels, uint8_t* to) {
  size_t at = 0;
  for (; at + 16 <= pixels; at += 16) {
    const uint8x16x3_t three = vld3q_u8(row + at * 3);
    vst3q_u8(to + at * 3, (uint8x16x3_t{{three.val[2], three.val[1], three.val[0]}}));
  }
  reorder_scalar<3, 2, 0>(row + at * 3, pixels - at, to + at * 3);
}

void convert_grey(const uint8_t* row, size_t pixels, uint8_t* to) {
  size_t at = 0;
  for (; at + 16 <= pixels; at += 16) {
    const uint8x16_t grey = vld1q_u8(row + at);
    vst3q_u8(to + at * 3, (uint8x16x3_t{{grey, grey, grey}}));
  }
  reorder_scalar<1, 0, 0>(row + at, pixels - at, to + at * 3);
}

/// Four values of luma, weighed, and of a colour's chroma.
inline int16x4_t add_luma(int32x4_t luma, int32x4_t chroma) {
  return vqmovn_s32(vshrq_n_s32(vaddq_s32(luma, chroma), bt601::kBits));
}

/// Eight values of a colour; each sum of chroma counts for two of luma.
inline uint8x8_t add_luma(const int32x4_t luma[2], int32x4_t chroma) {
  const int32x4x2_t doubled = vzipq_s32(chroma, chroma);
  return vqmovun_s16(vcombine_s16(add_luma(luma[0], doubled.val[0]), add_luma(luma[1], doubled.val[1])));
}

void convert_yuv(const uint8_t* y, const uint8_t* u, const uint8_t* v, size_t step, size_t pixels, uint8_t* to) {
  using namespace bt601;
  const int16x8_t middle = vdupq_n_s16(128);
  size_t at = 0;
  for (; at + 16 <= pixels; at += 16) {
    uint8x8x2_t chroma;
    if (step == 2) {  // V follows U
      chroma = vld2_u8(u + at);
    } else {
      chroma = {{vld1_u8(u + at / 2), vld1_u8(v + at / 2)}};
    }
    const int16x8_t from_u = vsubq_s16(widen(chroma.val[0]), middle);
    const int16x8_t from_v = vsubq_s16(widen(chroma.val[1]), middle);
    uint8x8_t found[3][2];
    for (int part = 0; part < 2; ++part) {
      const int16x8_t eight = vsubq_s16(widen(vld1_u8(y + at + 8 * static_cast<size_t>(part))), vdupq_n_s16(16));
      const int32x4_t half = vdupq_n_s32(kHalf);
      const int32x4_t luma[2] = {vmlal_n_s16(half, vget_low_s16(eight), kLuma),
                                 vmlal_n_s16(half, vget_high_s16(eight), kLuma)};
      const int16x4_t four_u = part == 0 ? vget_low_s16(from_u) : vget_high_s16(from_u);
      const int16x4_t four_v = part == 0 ? vget_low_s16(from_v) : vget_high_s16(from_v);
      found[0][part] = add_luma(luma, vmull_n_s16(four_v, kRedV));
      found[1][part] = add_luma(luma, vmlal_n_s16(vmull_n_s16(four_u, kGreenU), four_v, kGreenV));
      found[2][part] = add_luma(luma, vmull_n_s16(four_u, kBlueU));
    }
    vst3q_u8(to + at * 3, (uint8x16x3_t{{vcombine_u8(found[0][0], found[0][1]), vcombine_u8(found[1][0], found[1][1]),
                                         vcombine_u8(found[2][0], found[2][1])}}));
  }
  convert_yuv_scalar(y + at, u + at / 2 * step, v + at / 2 * step, step, pixels - at, to + at * 3);
}

}  // namespace

const Kernels kNeonKernels = {
    "neon", 8, 16, pass_across, pass_down, convert_bgr, reorder_four<0, 2>, reorder_four<2, 0>, convert_grey, convert_yuv,
};

}  // namespace edgevit::detail

#endif
