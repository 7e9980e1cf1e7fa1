// 256-bit registers: two rows in one, otherwise as with 128 bits.
#include "pixels/kernels.hpp"

#if defined(EDGEVIT_X86_KERNELS)
#include <immintrin.h>

#include <cstring>

#include "pixels/x86_layouts.hpp"

#define EDGEVIT_TARGET __attribute__((target("avx2")))

namespace edgevit::detail {
namespace {

EDGEVIT_TARGET inline __m256i load(const uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

/// Sixteen bytes of two rows.
EDGEVIT_TARGET inline __m256i load_two(const uint8_t* low, const uint8_t* high) {
  return _mm256_inserti128_si256(
      _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(low))),
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(high)), 1);
}

/// Digits of two taps, in every lane.
EDGEVIT_TARGET inline __m256i spread(const int16_t* digits) {
  int32_t pair;
  std::memcpy(&pair, digits, sizeof(pair));
  return _mm256_set1_epi32(pair);
}

template <int Digits>
EDGEVIT_TARGET inline __m256i finish(const __m256i* sums, __m256i half, __m128i precision) {
  __m256i total = _mm256_add_epi32(sums[0], half);
  if (Digits == 2) total = _mm256_add_epi32(total, _mm256_slli_epi32(sums[1], 16));
  return _mm256_sra_epi32(total, precision);
}

/// The sums of one output for four rows, two in each half of `sums`.
template <int Digits>
EDGEVIT_TARGET inline void add_pixels(const uint8_t* const* rows, ptrdiff_t at, const int16_t* digits, int taps,
                                      __m256i sums[2][Digits]) {
  // Red, green and blue of two taps side by side, as 16-bit numbers; the last lane is not used.
  const __m256i first = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  const __m256i second = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
  for (int pair = 0; pair < 2; ++pair) {
    for (int d = 0; d < Digits; ++d) sums[pair][d] = _mm256_setzero_si256();
  }
  for (int k = 0; k < taps; k += 4, at += 12) {
    for (int pair = 0; pair < 2; ++pair) {
      const __m256i four = load_two(rows[pair * 2] + at, rows[pair * 2 + 1] + at);
      const __m256i a = _mm256_shuffle_epi8(four, first);
      const __m256i b = _mm256_shuffle_epi8(four, second);
      for (int d = 0; d < Digits; ++d) {
        const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(a, spread(digits + d * taps + k)),
                                             _mm256_madd_epi16(b, spread(digits + d * taps + k + 2)));
        sums[pair][d] = _mm256_add_epi32(sums[pair][d], sum);
      }
    }
  }
}

template <int Digits>
EDGEVIT_TARGET void across(const Weights& weights, const uint8_t* const* rows, uint8_t* const* to) {
  const __m256i half = _mm256_set1_epi32(1 << (weights.precision - 1));
  const __m128i precision = _mm_cvtsi32_si128(weights.precision);
  const __m256i order = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  for (int x = 0; x < weights.outputs; x += 4) {
    __m256i found[2][4];
    for (int i = 0; i < 4; ++i) {
      const int output = x + i < weights.outputs ? x + i : weights.outputs - 1;
      __m256i sums[2][Digits];
      add_pixels<Digits>(rows, static_cast<ptrdiff_t>(weights.starts[output]) * 3, weights.of<int16_t>(output),
                         weights.taps, sums);
      for (int pair = 0; pair < 2; ++pair) found[pair][i] = finish<Digits>(sums[pair], half, precision);
    }
    for (int pair = 0; pair < 2; ++pair) {
      const __m256i* four = found[pair];
      const __m256i bytes = _mm256_shuffle_epi8(
          _mm256_packus_epi16(_mm256_packs_epi32(four[0], four[1]), _mm256_packs_epi32(four[2], four[3])), order);
      const ptrdiff_t at = static_cast<ptrdiff_t>(x) * 3;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to[pair * 2] + at), _mm256_castsi256_si128(bytes));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to[pair * 2 + 1] + at), _mm256_extracti128_si256(bytes, 1));
    }
  }
}

template <int Digits>
EDGEVIT_TARGET void down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  const __m256i half = _mm256_set1_epi32(1 << (weights.precision - 1));
  const __m128i precision = _mm_cvtsi32_si128(weights.precision);
  const __m256i zero = _mm256_setzero_si256();
  const int16_t* digits = weights.of<int16_t>(output);
  for (size_t at = 0; at < bytes; at += 32) {
    __m256i sums[4][Digits];
    for (auto& lane : sums) {
      for (__m256i& sum : lane) sum = zero;
    }
    for (int k = 0; k < weights.taps; k += 2) {
      const __m256i a = load(rows[k] + at);
      const __m256i b = load(rows[k + 1] + at);
      const __m256i low = _mm256_unpacklo_epi8(a, b);
      const __m256i high = _mm256_unpackhi_epi8(a, b);
      const __m256i pairs[4] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                                _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
      for (int d = 0; d < Digits; ++d) {
        const __m256i factors = spread(digits + d * weights.taps + k);
        for (int i = 0; i < 4; ++i) sums[i][d] = _mm256_add_epi32(sums[i][d], _mm256_madd_epi16(pairs[i], factors));
      }
    }
    // Packing undoes what unpacking did to the order.
    const __m256i low =
        _mm256_packs_epi32(finish<Digits>(sums[0], half, precision), finish<Digits>(sums[1], half, precision));
    const __m256i high =
        _mm256_packs_epi32(finish<Digits>(sums[2], half, precision), finish<Digits>(sums[3], half, precision));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), _mm256_packus_epi16(low, high));
  }
}

void pass_across(const Weights& weights, const uint8_t* const rows[kRows], uint8_t* const to[kRows]) {
  (weights.digits == 1 ? across<1> : across<2>)(weights, rows, to);
}

void pass_down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  (weights.digits == 1 ? down<1> : down<2>)(weights, output, rows, bytes, to);
}

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2",           4,
    16,               pass_across,
    pass_down,        convert_bgr_x86,
    convert_rgba_x86, convert_bgra_x86,
    convert_grey_x86, convert_yuv_x86,
};

}  // namespace edgevit::detail

#endif
