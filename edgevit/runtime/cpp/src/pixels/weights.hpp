// Weights: how much each input counts in each output of one pass of a resize, as integers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "pixels/preprocessor.hpp"

namespace edgevit::detail {

/// What weights depend on; the outputs from `begin` to `end` of `target` are wanted.
struct WeightKey {
  Interpolation interpolation;
  Resampling resampling;
  int source;
  int target;
  int begin;
  int end;
  int step;        ///< taps are filled up with zeros to a multiple of this
  int digit_bits;  ///< 8, 16 or 32: see Weights::digits

  bool operator==(const WeightKey& other) const noexcept;
};

/// An output is (Σ weight · input + half) >> precision, clipped to 8 bits, modulo 2³² in between.
///
/// A weight is written in signed digits of 8, 16 or 32 bits, the least first, so that processors can multiply by them:
/// 8-bit ones by VPDPBUSD, 16-bit ones by PMADDWD or SMLAL. Sums over each digit are shifted and added at the end.
struct Weights {
  int outputs = 0;
  int taps = 0;       ///< of every output, zeros included
  int digits = 0;     ///< of every weight; as few as all of them fit into
  int precision = 0;  ///< fractional bits
  int first = 0;      ///< the first input that is read
  int last = 0;       ///< the input after the last one
  std::vector<int32_t> starts;   ///< first input of each output, counted from `first`; never less than the one before
  std::vector<uint8_t> packed;   ///< [outputs][digits][taps] digits

  template <typename Digit>
  const Digit* of(int output) const noexcept {
    return reinterpret_cast<const Digit*>(packed.data()) + static_cast<size_t>(output) * digits * taps;
  }
};

/// The weights of sizes that were seen last. What it returns is valid until 32 others have been asked for.
class WeightCache {
 public:
  /// Throws Failure, EDGEVIT_IMAGE, where the weights would be more than 2²⁶: the image is an extreme strip.
  const Weights& find(const WeightKey& key);

 private:
  struct Entry {
    WeightKey key{};
    Weights weights;
    uint64_t used = 0;  // 0: empty
  };

  void compute(const WeightKey& key, Weights& weights);
  void compute_pillow(const WeightKey& key, Weights& weights);
  void compute_torch(const WeightKey& key, Weights& weights);
  void pack(const WeightKey& key, Weights& weights);

  std::array<Entry, 32> entries_;
  uint64_t clock_ = 0;
  std::vector<double> values_;   // scratch of the computation, as those below
  std::vector<int32_t> words_;   // [outputs][width of a row]
  std::vector<int32_t> counts_;  // of each output, as the next
  std::vector<int32_t> offsets_;
};

}  // namespace edgevit::detail
