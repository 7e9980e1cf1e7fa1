// 128-bit registers: PMADDWD multiplies pairs of taps by 16-bit digits.
#include "pixels/kernels.hpp"

#if defined(EDGEVIT_X86_KERNELS)
#include <immintrin.h>

#include <cstring>

#include "pixels/x86_layouts.hpp"

#define EDGEVIT_TARGET __attribute__((target("sse4.1")))

namespace edgevit::detail {
namespace {

EDGEVIT_TARGET inline __m128i load(const uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

/// Digits of two taps, in every lane.
EDGEVIT_TARGET inline __m128i spread(const int16_t* digits) {
  int32_t pair;
  std::memcpy(&pair, digits, sizeof(pair));
  return _mm_set1_epi32(pair);
}

/// Sums over the digits to 32-bit results.
template <int Digits>
EDGEVIT_TARGET inline __m128i finish(const __m128i* sums, __m128i half, __m128i precision) {
  __m128i total = _mm_add_epi32(sums[0], half);
  if (Digits == 2) total = _mm_add_epi32(total, _mm_slli_epi32(sums[1], 16));
  return _mm_sra_epi32(total, precision);
}

template <int Digits>
EDGEVIT_TARGET inline void add_pixels(const uint8_t* pixels, const int16_t* digits, int taps, __m128i* sums) {
  // Red, green and blue of two taps side by side, as 16-bit numbers; the last lane is not used.
  const __m128i first = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  const __m128i second = _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  for (int d = 0; d < Digits; ++d) sums[d] = _mm_setzero_si128();
  for (int k = 0; k < taps; k += 4, pixels += 12) {
    const __m128i four = load(pixels);
    const __m128i a = _mm_shuffle_epi8(four, first);
    const __m128i b = _mm_shuffle_epi8(four, second);
    for (int d = 0; d < Digits; ++d) {
      const __m128i sum = _mm_add_epi32(_mm_madd_epi16(a, spread(digits + d * taps + k)),
                                        _mm_madd_epi16(b, spread(digits + d * taps + k + 2)));
      sums[d] = _mm_add_epi32(sums[d], sum);
    }
  }
}

template <int Digits>
EDGEVIT_TARGET void across(const Weights& weights, const uint8_t* const* rows, uint8_t* const* to) {
  const __m128i half = _mm_set1_epi32(1 << (weights.precision - 1));
  const __m128i precision = _mm_cvtsi32_si128(weights.precision);
  const __m128i order = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  for (int x = 0; x < weights.outputs; x += 4) {
    for (int row = 0; row < kRows; ++row) {
      __m128i found[4];
      for (int i = 0; i < 4; ++i) {
        const int output = x + i < weights.outputs ? x + i : weights.outputs - 1;
        __m128i sums[Digits];
        add_pixels<Digits>(rows[row] + static_cast<ptrdiff_t>(weights.starts[output]) * 3, weights.of<int16_t>(output),
                           weights.taps, sums);
        found[i] = finish<Digits>(sums, half, precision);
      }
      const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(found[0], found[1]), _mm_packs_epi32(found[2], found[3]));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to[row] + static_cast<ptrdiff_t>(x) * 3),
                       _mm_shuffle_epi8(bytes, order));
    }
  }
}

template <int Digits>
EDGEVIT_TARGET void down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  const __m128i half = _mm_set1_epi32(1 << (weights.precision - 1));
  const __m128i precision = _mm_cvtsi32_si128(weights.precision);
  const __m128i zero = _mm_setzero_si128();
  const int16_t* digits = weights.of<int16_t>(output);
  for (size_t at = 0; at < bytes; at += 16) {
    __m128i sums[4][Digits];
    for (auto& lane : sums) {
      for (__m128i& sum : lane) sum = zero;
    }
    for (int k = 0; k < weights.taps; k += 2) {
      const __m128i a = load(rows[k] + at);
      const __m128i b = load(rows[k + 1] + at);
      const __m128i low = _mm_unpacklo_epi8(a, b);
      const __m128i high = _mm_unpackhi_epi8(a, b);
      const __m128i pairs[4] = {_mm_unpacklo_epi8(low, zero), _mm_unpackhi_epi8(low, zero),
                                _mm_unpacklo_epi8(high, zero), _mm_unpackhi_epi8(high, zero)};
      for (int d = 0; d < Digits; ++d) {
        const __m128i factors = spread(digits + d * weights.taps + k);
        for (int i = 0; i < 4; ++i) sums[i][d] = _mm_add_epi32(sums[i][d], _mm_madd_epi16(pairs[i], factors));
      }
    }
    const __m128i low = _mm_packs_epi32(finish<Digits>(sums[0], half, precision), finish<Digits>(sums[1], half, precision));
    const __m128i high = _mm_packs_epi32(finish<Digits>(sums[2], half, precision), finish<Digits>(sums[3], half, precision));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at), _mm_packus_epi16(low, high));
  }
}

void pass_across(const Weights& weights, const uint8_t* const rows[kRows], uint8_t* const to[kRows]) {
  (weights.digits == 1 ? across<1> : across<2>)(weights, rows, to);
}

void pass_down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  (weights.digits == 1 ? down<1> : down<2>)(weights, output, rows, bytes, to);
}

}  // namespace

const Kernels kSse41Kernels = {
    "sse4.1",         4,
    16,               pass_across,
    pass_down,        convert_bgr_x86,
    convert_rgba_x86, convert_bgra_x86,
    convert_grey_x86, convert_yuv_x86,
};

}  // namespace edgevit::detail

#endif
