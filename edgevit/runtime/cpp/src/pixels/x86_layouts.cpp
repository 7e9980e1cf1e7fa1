#include "pixels/kernels.hpp"

#if defined(EDGEVIT_X86_KERNELS)
#include <immintrin.h>

#include "pixels/scalar.hpp"
#include "pixels/x86_layouts.hpp"

#define EDGEVIT_TARGET __attribute__((target("sse4.1")))

namespace edgevit::detail {
namespace {

EDGEVIT_TARGET inline __m128i load(const uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

EDGEVIT_TARGET inline void store(uint8_t* to, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value);
}

EDGEVIT_TARGET inline __m128i join(__m128i a, __m128i b, __m128i c) { return _mm_or_si128(_mm_or_si128(a, b), c); }

/// Sixteen reds, greens and blues to 48 bytes.
EDGEVIT_TARGET inline void interleave(__m128i red, __m128i green, __m128i blue, uint8_t* to) {
  const __m128i r0 = _mm_setr_epi8(0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5);
  const __m128i g0 = _mm_setr_epi8(-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1);
  const __m128i b0 = _mm_setr_epi8(-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1);
  const __m128i r1 = _mm_setr_epi8(-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1);
  const __m128i g1 = _mm_setr_epi8(5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10);
  const __m128i b1 = _mm_setr_epi8(-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1);
  const __m128i r2 = _mm_setr_epi8(-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1);
  const __m128i g2 = _mm_setr_epi8(-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1);
  const __m128i b2 = _mm_setr_epi8(10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15);
  store(to, join(_mm_shuffle_epi8(red, r0), _mm_shuffle_epi8(green, g0), _mm_shuffle_epi8(blue, b0)));
  store(to + 16, join(_mm_shuffle_epi8(red, r1), _mm_shuffle_epi8(green, g1), _mm_shuffle_epi8(blue, b1)));
  store(to + 32, join(_mm_shuffle_epi8(red, r2), _mm_shuffle_epi8(green, g2), _mm_shuffle_epi8(blue, b2)));
}

/// Four or five pixels of a register at a time; what is stored beyond them the next ones overwrite.
template <int Size, int Red, int Blue, int Pixels>
EDGEVIT_TARGET inline void reorder(const uint8_t* row, size_t pixels, uint8_t* to, __m128i order) {
  size_t at = 0;
  for (; at * Size + 16 <= pixels * Size; at += Pixels) {
    store(to + at * 3, _mm_shuffle_epi8(load(row + at * Size), order));
  }
  reorder_scalar<Size, Red, Blue>(row + at * Size, pixels - at, to + at * 3);
}

/// The sums of a colour's chroma for eight values of U and V, four in each of the two.
struct Sums {
  __m128i low;
  __m128i high;
};

EDGEVIT_TARGET inline Sums weigh_chroma(__m128i low, __m128i high, int from_u, int from_v) {
  const __m128i factors = _mm_set1_epi32(static_cast<int>(static_cast<uint16_t>(from_u) |
                                                          static_cast<uint32_t>(static_cast<uint16_t>(from_v)) << 16));
  return {_mm_madd_epi16(low, factors), _mm_madd_epi16(high, factors)};
}

/// Sixteen values of a colour: each sum of chroma counts for two of luma.
EDGEVIT_TARGET inline __m128i add_luma(const __m128i luma[4], Sums sums) {
  using bt601::kBits;
  const __m128i a = _mm_srai_epi32(_mm_add_epi32(luma[0], _mm_unpacklo_epi32(sums.low, sums.low)), kBits);
  const __m128i b = _mm_srai_epi32(_mm_add_epi32(luma[1], _mm_unpackhi_epi32(sums.low, sums.low)), kBits);
  const __m128i c = _mm_srai_epi32(_mm_add_epi32(luma[2], _mm_unpacklo_epi32(sums.high, sums.high)), kBits);
  const __m128i d = _mm_srai_epi32(_mm_add_epi32(luma[3], _mm_unpackhi_epi32(sums.high, sums.high)), kBits);
  return _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
}

}  // namespace

EDGEVIT_TARGET void convert_bgr_x86(const uint8_t* row, size_t pixels, uint8_t* to) {
  reorder<3, 2, 0, 5>(row, pixels, to, _mm_setr_epi8(2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 13, 12, -1));
}

EDGEVIT_TARGET void convert_rgba_x86(const uint8_t* row, size_t pixels, uint8_t* to) {
  reorder<4, 0, 2, 4>(row, pixels, to, _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
}

EDGEVIT_TARGET void convert_bgra_x86(const uint8_t* row, size_t pixels, uint8_t* to) {
  reorder<4, 2, 0, 4>(row, pixels, to, _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1));
}

EDGEVIT_TARGET void convert_grey_x86(const uint8_t* row, size_t pixels, uint8_t* to) {
  size_t at = 0;
  for (; at + 16 <= pixels; at += 16) {
    const __m128i grey = load(row + at);
    interleave(grey, grey, grey, to + at * 3);
  }
  reorder_scalar<1, 0, 0>(row + at, pixels - at, to + at * 3);
}

EDGEVIT_TARGET void convert_yuv_x86(const uint8_t* y, const uint8_t* u, const uint8_t* v, size_t step, size_t pixels,
                                    uint8_t* to) {
  using namespace bt601;
  const __m128i middle = _mm_set1_epi16(128);
  const __m128i black = _mm_set1_epi16(16);
  const __m128i one = _mm_set1_epi16(1);
  // A pair of luma and 1 times these is the product and the half that is rounded by.
  const __m128i luma_factors = _mm_set1_epi32(kLuma | kHalf << 16);
  size_t at = 0;
  for (; at + 16 <= pixels; at += 16) {
    __m128i from_u;
    __m128i from_v;
    if (step == 2) {  // V follows U
      const __m128i both = load(u + at);
      from_u = _mm_and_si128(both, _mm_set1_epi16(255));
      from_v = _mm_srli_epi16(both, 8);
    } else {
      from_u = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(u + at / 2)));
      from_v = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(v + at / 2)));
    }
    from_u = _mm_sub_epi16(from_u, middle);
    from_v = _mm_sub_epi16(from_v, middle);
    const __m128i low = _mm_unpacklo_epi16(from_u, from_v);
    const __m128i high = _mm_unpackhi_epi16(from_u, from_v);
    const __m128i bytes = load(y + at);
    const __m128i first = _mm_sub_epi16(_mm_cvtepu8_epi16(bytes), black);
    const __m128i second = _mm_sub_epi16(_mm_cvtepu8_epi16(_mm_srli_si128(bytes, 8)), black);
    const __m128i luma[4] = {_mm_madd_epi16(_mm_unpacklo_epi16(first, one), luma_factors),
                             _mm_madd_epi16(_mm_unpackhi_epi16(first, one), luma_factors),
                             _mm_madd_epi16(_mm_unpacklo_epi16(second, one), luma_factors),
                             _mm_madd_epi16(_mm_unpackhi_epi16(second, one), luma_factors)};
    interleave(add_luma(luma, weigh_chroma(low, high, 0, kRedV)),
               add_luma(luma, weigh_chroma(low, high, kGreenU, kGreenV)),
               add_luma(luma, weigh_chroma(low, high, kBlueU, 0)), to + at * 3);
  }
  convert_yuv_scalar(y + at, u + at / 2 * step, v + at / 2 * step, step, pixels - at, to + at * 3);
}

}  // namespace edgevit::detail

#endif
