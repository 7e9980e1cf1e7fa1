// Kernels: the inner loops, for each instruction set. All of them give the same bytes, as all is integer arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pixels/weights.hpp"

namespace edgevit::detail {

/// Bytes behind a row that kernels may read, and overwrite where they write one.
constexpr size_t kSlack = 64;

/// Rows that a horizontal pass takes at a time.
constexpr int kRows = 4;

struct Kernels {
  const char* name;
  int step;        ///< of WeightKey
  int digit_bits;  ///< likewise

  /// The horizontal pass of four rows, which need not be different ones. `rows` are at the weights' first input;
  /// 3 · outputs bytes are written to each of `to`.
  void (*across)(const Weights& weights, const uint8_t* const rows[kRows], uint8_t* const to[kRows]);

  /// One row of the vertical pass: `rows` are as many as there are taps, of this many bytes each.
  void (*down)(const Weights& weights, int output, const uint8_t* const* rows, size_t bytes, uint8_t* to);

  /// Rows of other layouts to RGB; they read no byte behind the row.
  void (*from_bgr)(const uint8_t* row, size_t pixels, uint8_t* to);
  void (*from_rgba)(const uint8_t* row, size_t pixels, uint8_t* to);
  void (*from_bgra)(const uint8_t* row, size_t pixels, uint8_t* to);
  void (*from_grey)(const uint8_t* row, size_t pixels, uint8_t* to);
  /// A value of U and of V for two pixels; `step` bytes from one to the next.
  void (*from_yuv)(const uint8_t* y, const uint8_t* u, const uint8_t* v, size_t step, size_t pixels, uint8_t* to);
};

/// The fastest that this processor has.
const Kernels& choose_kernels();

/// By name: scalar, sse4.1, avx2, avx512-vnni or neon; nothing where this processor or build does not have it.
const Kernels* find_kernels(const char* name);

extern const Kernels kScalarKernels;
#if defined(__GNUC__) && defined(__x86_64__)
#define EDGEVIT_X86_KERNELS 1
extern const Kernels kSse41Kernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define EDGEVIT_NEON_KERNELS 1
extern const Kernels kNeonKernels;
#endif

}  // namespace edgevit::detail
