// 512-bit registers: four rows in one; VPDPBUSD multiplies four taps by 8-bit digits and adds them up.
#include "pixels/kernels.hpp"

#if defined(EDGEVIT_X86_KERNELS)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // in GCC's own header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#include "pixels/x86_layouts.hpp"

#define EDGEVIT_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

namespace edgevit::detail {
namespace {

EDGEVIT_TARGET inline __m128i load_part(const uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

/// Sixteen bytes of four rows.
EDGEVIT_TARGET inline __m512i load_four(const uint8_t* const* rows, ptrdiff_t at) {
  const __m256i low =
      _mm256_inserti128_si256(_mm256_castsi128_si256(load_part(rows[0] + at)), load_part(rows[1] + at), 1);
  const __m256i high =
      _mm256_inserti128_si256(_mm256_castsi128_si256(load_part(rows[2] + at)), load_part(rows[3] + at), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/// Digits of four taps, in every lane.
EDGEVIT_TARGET inline __m512i spread(const int8_t* digits) {
  int32_t four;
  std::memcpy(&four, digits, sizeof(four));
  return _mm512_set1_epi32(four);
}

template <int Digits>
EDGEVIT_TARGET inline __m512i finish(const __m512i* sums, __m512i half, __m128i precision) {
  __m512i total = _mm512_add_epi32(sums[0], half);
  for (int d = 1; d < Digits; ++d) total = _mm512_add_epi32(total, _mm512_slli_epi32(sums[d], static_cast<unsigned>(8 * d)));
  return _mm512_sra_epi32(total, precision);
}

template <int Digits>
EDGEVIT_TARGET void across(const Weights& weights, const uint8_t* const* rows, uint8_t* const* to) {
  const __m512i half = _mm512_set1_epi32(1 << (weights.precision - 1));
  const __m128i precision = _mm_cvtsi32_si128(weights.precision);
  const __m512i colours =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
  const __m512i order =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const int taps = weights.taps;
  for (int x = 0; x < weights.outputs; x += 4) {
    __m512i found[4];
    for (int i = 0; i < 4; ++i) {
      const int output = x + i < weights.outputs ? x + i : weights.outputs - 1;
      const int8_t* digits = weights.of<int8_t>(output);
      ptrdiff_t at = static_cast<ptrdiff_t>(weights.starts[output]) * 3;
      __m512i sums[Digits];
      for (__m512i& sum : sums) sum = _mm512_setzero_si512();
      for (int k = 0; k < taps; k += 4, at += 12) {
        const __m512i pixels = _mm512_shuffle_epi8(load_four(rows, at), colours);
        for (int d = 0; d < Digits; ++d) sums[d] = _mm512_dpbusd_epi32(sums[d], pixels, spread(digits + d * taps + k));
      }
      found[i] = finish<Digits>(sums, half, precision);
    }
    const __m512i bytes = _mm512_shuffle_epi8(
        _mm512_packus_epi16(_mm512_packs_epi32(found[0], found[1]), _mm512_packs_epi32(found[2], found[3])), order);
    const ptrdiff_t at = static_cast<ptrdiff_t>(x) * 3;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[0] + at), _mm512_castsi512_si128(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[1] + at), _mm512_extracti32x4_epi32(bytes, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[2] + at), _mm512_extracti32x4_epi32(bytes, 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[3] + at), _mm512_extracti32x4_epi32(bytes, 3));
  }
}

template <int Digits>
EDGEVIT_TARGET void down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  const __m512i half = _mm512_set1_epi32(1 << (weights.precision - 1));
  const __m128i precision = _mm_cvtsi32_si128(weights.precision);
  const int8_t* digits = weights.of<int8_t>(output);
  for (size_t at = 0; at < bytes; at += 64) {
    __m512i sums[4][Digits];
    for (auto& lane : sums) {
      for (__m512i& sum : lane) sum = _mm512_setzero_si512();
    }
    for (int k = 0; k < weights.taps; k += 4) {
      const __m512i a = _mm512_loadu_si512(rows[k] + at);
      const __m512i b = _mm512_loadu_si512(rows[k + 1] + at);
      const __m512i c = _mm512_loadu_si512(rows[k + 2] + at);
      const __m512i e = _mm512_loadu_si512(rows[k + 3] + at);
      const __m512i ab_low = _mm512_unpacklo_epi8(a, b);
      const __m512i ab_high = _mm512_unpackhi_epi8(a, b);
      const __m512i ce_low = _mm512_unpacklo_epi8(c, e);
      const __m512i ce_high = _mm512_unpackhi_epi8(c, e);
      const __m512i fours[4] = {_mm512_unpacklo_epi16(ab_low, ce_low), _mm512_unpackhi_epi16(ab_low, ce_low),
                                _mm512_unpacklo_epi16(ab_high, ce_high), _mm512_unpackhi_epi16(ab_high, ce_high)};
      for (int d = 0; d < Digits; ++d) {
        const __m512i factors = spread(digits + d * weights.taps + k);
        for (int i = 0; i < 4; ++i) sums[i][d] = _mm512_dpbusd_epi32(sums[i][d], fours[i], factors);
      }
    }
    // Packing undoes what unpacking did to the order.
    const __m512i low =
        _mm512_packs_epi32(finish<Digits>(sums[0], half, precision), finish<Digits>(sums[1], half, precision));
    const __m512i high =
        _mm512_packs_epi32(finish<Digits>(sums[2], half, precision), finish<Digits>(sums[3], half, precision));
    _mm512_storeu_si512(to + at, _mm512_packus_epi16(low, high));
  }
}

void pass_across(const Weights& weights, const uint8_t* const rows[kRows], uint8_t* const to[kRows]) {
  constexpr decltype(&across<1>) kByDigits[] = {across<1>, across<2>, across<3>, across<4>};
  kByDigits[weights.digits - 1](weights, rows, to);
}

void pass_down(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to) {
  constexpr decltype(&down<1>) kByDigits[] = {down<1>, down<2>, down<3>, down<4>};
  kByDigits[weights.digits - 1](weights, output, rows, bytes, to);
}

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512-vnni",    4,
    8,                pass_across,
    pass_down,        convert_bgr_x86,
    convert_rgba_x86, convert_bgra_x86,
    convert_grey_x86, convert_yuv_x86,
};

}  // namespace edgevit::detail

#endif
