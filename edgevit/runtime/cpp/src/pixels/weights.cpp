// Compiled without fused multiplication and addition: the last bit of a weight decides how it is rounded, and is that
// of Pillow's and numpy's on x86 everywhere.
#include "pixels/weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.hpp"

namespace edgevit::detail {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kPillowPrecision = 22;  // of 32 bits, 8 are the pixel and 2 are left for sums beyond its range
constexpr int64_t kMostWeights = int64_t{1} << 26;

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= kPi;
  return std::sin(x) / x;
}

double cubic(double x) {  // Keys 1981, a = -0.5; x is not negative
  if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
  return 0.0;
}

double hamming(double x) {  // not negative; Pillow's constants are float32
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= kPi;
  return std::sin(x) / x * (static_cast<double>(0.54F) + static_cast<double>(0.46F) * std::cos(x));
}

double evaluate(Interpolation filter, double x) {
  switch (filter) {
    case Interpolation::box:
      return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case Interpolation::bilinear:
      return std::max(1.0 - std::fabs(x), 0.0);
    case Interpolation::hamming:
      return hamming(std::fabs(x));
    case Interpolation::bicubic:
      return cubic(std::fabs(x));
    case Interpolation::lanczos:
      return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
    case Interpolation::nearest:
      break;
  }
  return 0.0;
}

/// Half-width of a filter.
double find_support(Interpolation filter) {
  switch (filter) {
    case Interpolation::box:
      return 0.5;
    case Interpolation::bicubic:
      return 2.0;
    case Interpolation::lanczos:
      return 3.0;
    default:
      return 1.0;
  }
}

/// Adds as numpy does: in eight sums, and blocks of more than 128 in halves.
double add_pairwise(const double* values, int64_t count) {
  if (count < 8) {
    double total = 0.0;
    for (int64_t i = 0; i < count; ++i) total += values[i];
    return total;
  }
  if (count > 128) {
    int64_t half = count / 2;
    half -= half % 8;
    return add_pairwise(values, half) + add_pairwise(values + half, count - half);
  }
  double sums[8];
  std::copy(values, values + 8, sums);
  int64_t at = 8;
  for (; at < count - count % 8; at += 8) {
    for (int i = 0; i < 8; ++i) sums[i] += values[at + i];
  }
  double total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  for (; at < count; ++at) total += values[at];
  return total;
}

int32_t round_weight(double scaled) { return static_cast<int32_t>(scaled + (scaled < 0.0 ? -0.5 : 0.5)); }

template <typename Digit>
int count_digits(int32_t weight) {
  int digits = 0;
  for (int64_t rest = weight; digits == 0 || rest != 0; ++digits) {
    rest = (rest - static_cast<Digit>(rest)) / (int64_t{1} << (8 * sizeof(Digit)));
  }
  return digits;
}

/// Numbers between others have no more digits than these.
int count_most_digits(int32_t least, int32_t largest, int bits) {
  if (bits == 8) return std::max(count_digits<int8_t>(least), count_digits<int8_t>(largest));
  if (bits == 16) return std::max(count_digits<int16_t>(least), count_digits<int16_t>(largest));
  return 1;
}

template <typename Digit>
void write_digits(const int32_t* words, int count, int digits, int taps, Digit* to) {
  for (int k = 0; k < count; ++k) {
    int64_t rest = words[k];
    for (int i = 0; i < digits; ++i) {
      const auto digit = static_cast<Digit>(rest);
      to[static_cast<size_t>(i) * taps + k] = digit;
      rest = (rest - digit) >> (8 * sizeof(Digit));
    }
  }
}

}  // namespace

bool WeightKey::operator==(const WeightKey& other) const noexcept {
  return interpolation == other.interpolation && resampling == other.resampling && source == other.source &&
         target == other.target && begin == other.begin && end == other.end && step == other.step &&
         digit_bits == other.digit_bits;
}

const Weights& WeightCache::find(const WeightKey& key) {
  Entry* oldest = &entries_[0];
  for (Entry& entry : entries_) {
    if (entry.used != 0 && entry.key == key) {
      entry.used = ++clock_;
      return entry.weights;
    }
    if (entry.used < oldest->used) oldest = &entry;
  }
  oldest->used = 0;  // until it is whole
  compute(key, oldest->weights);
  oldest->key = key;
  oldest->used = ++clock_;
  return oldest->weights;
}

void WeightCache::compute(const WeightKey& key, Weights& weights) {
  const double stretch = std::max(static_cast<double>(key.source) / key.target, 1.0);
  const auto row = static_cast<int64_t>(std::ceil(find_support(key.interpolation) * stretch)) * 2 + 1;
  if (row > kMostWeights / (key.end - key.begin)) {
    throw Failure(EDGEVIT_IMAGE,
                  "the image: " + std::to_string(key.source) + " pixels along one side are too many to resize",
                  "crop the image to a less extreme aspect ratio");
  }
  weights.outputs = key.end - key.begin;
  weights.taps = static_cast<int>(row);
  weights.starts.resize(static_cast<size_t>(weights.outputs));
  counts_.resize(static_cast<size_t>(weights.outputs));
  words_.assign(static_cast<size_t>(weights.outputs) * static_cast<size_t>(row), 0);
  if (key.resampling == Resampling::torch) {
    compute_torch(key, weights);
  } else {
    compute_pillow(key, weights);
  }
  pack(key, weights);
}

/// As Pillow's 8-bit resize: each output's weights divided by their sum, and rounded to 22 fractional bits.
void WeightCache::compute_pillow(const WeightKey& key, Weights& weights) {
  const double scale = static_cast<double>(static_cast<float>(key.source)) / key.target;  // Pillow's box is float32
  const double stretch = std::max(scale, 1.0);
  const double support = find_support(key.interpolation) * stretch;
  const double shrink = 1.0 / stretch;
  values_.resize(static_cast<size_t>(weights.taps));
  weights.precision = kPillowPrecision;
  for (int i = 0; i < weights.outputs; ++i) {
    const double centre = (key.begin + i + 0.5) * scale;
    const int start = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + support + 0.5), key.source);
    const int count = std::min(end - start, weights.taps);
    double total = 0.0;
    for (int k = 0; k < count; ++k) {
      values_[k] = evaluate(key.interpolation, (k + start - centre + 0.5) * shrink);
      total += values_[k];
    }
    int32_t* words = words_.data() + static_cast<size_t>(i) * weights.taps;
    for (int k = 0; k < count; ++k) {
      const double share = total != 0.0 ? values_[k] / total : values_[k];
      words[k] = round_weight(share * (1 << kPillowPrecision));
    }
    weights.starts[i] = start;
    counts_[i] = count;
  }
}

/// As torch's resize of uint8 tensors: 16-bit weights with as many fractional bits as the largest of all outputs allows.
void WeightCache::compute_torch(const WeightKey& key, Weights& weights) {
  const double scale = static_cast<double>(key.source) / key.target;
  const double stretch = std::max(scale, 1.0);
  const double reach = find_support(key.interpolation) * stretch;
  const auto row = static_cast<size_t>(weights.taps);
  values_.resize(row * static_cast<size_t>(weights.outputs + 1));
  double largest = 0.0;
  for (int output = 0; output < key.target; ++output) {
    const bool wanted = key.begin <= output && output < key.end;
    double* values = values_.data() + row * static_cast<size_t>(wanted ? output - key.begin : weights.outputs);
    const double centre = scale * (output + 0.5);
    const int start = std::max(static_cast<int>(centre - reach + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + reach + 0.5), key.source);
    const int count = std::min(end - start, weights.taps);
    for (int k = 0; k < count; ++k) {
      values[k] = evaluate(key.interpolation, (static_cast<double>(k + start) - centre + 0.5) / stretch);
    }
    std::fill(values + count, values + row, 0.0);
    const double total = add_pairwise(values, weights.taps);
    for (int k = 0; k < count; ++k) {
      values[k] /= total;
      largest = std::max(largest, values[k]);
    }
    if (wanted) {
      weights.starts[output - key.begin] = start;
      counts_[output - key.begin] = count;
    }
  }
  int precision = 0;
  while (precision < 22 && static_cast<int64_t>(0.5 + largest * (1 << (precision + 1))) < 1 << 15) ++precision;
  weights.precision = precision;
  for (size_t i = 0; i < row * static_cast<size_t>(weights.outputs); ++i) {
    words_[i] = round_weight(values_[i] * (1 << precision));
  }
}

/// Leaves out zeros at both ends of the outputs' weights and writes the others as digits.
void WeightCache::pack(const WeightKey& key, Weights& weights) {
  const auto row = static_cast<size_t>(weights.taps);
  offsets_.resize(counts_.size());
  int taps = 1;
  int begin = key.source;  // that of the output after this one: none may begin after it
  int32_t least = 0;
  int32_t largest = 0;
  weights.last = 0;
  for (int i = weights.outputs - 1; i >= 0; --i) {
    const int32_t* words = words_.data() + row * static_cast<size_t>(i);
    int low = 0;
    int high = counts_[i];
    while (high > 1 && words[high - 1] == 0) --high;
    while (low < high - 1 && words[low] == 0 && weights.starts[i] + low < begin) ++low;
    begin = weights.starts[i] += low;
    offsets_[i] = low;
    counts_[i] = high - low;
    taps = std::max(taps, counts_[i]);
    weights.last = std::max(weights.last, begin + counts_[i]);
    const auto bounds = std::minmax_element(words + low, words + high);
    least = std::min(least, *bounds.first);
    largest = std::max(largest, *bounds.second);
  }
  weights.first = begin;
  weights.taps = (taps + key.step - 1) / key.step * key.step;
  weights.digits = count_most_digits(least, largest, key.digit_bits);
  const size_t per_output = static_cast<size_t>(weights.digits) * weights.taps;
  weights.packed.assign(per_output * counts_.size() * static_cast<size_t>(key.digit_bits / 8), 0);
  for (int i = 0; i < weights.outputs; ++i) {
    weights.starts[i] -= weights.first;
    const int32_t* words = words_.data() + row * static_cast<size_t>(i) + offsets_[i];
    uint8_t* to = weights.packed.data() + per_output * static_cast<size_t>(i) * static_cast<size_t>(key.digit_bits / 8);
    if (key.digit_bits == 8) {
      write_digits(words, counts_[i], weights.digits, weights.taps, reinterpret_cast<int8_t*>(to));
    } else if (key.digit_bits == 16) {
      write_digits(words, counts_[i], weights.digits, weights.taps, reinterpret_cast<int16_t*>(to));
    } else {
      write_digits(words, counts_[i], weights.digits, weights.taps, reinterpret_cast<int32_t*>(to));
    }
  }
}

}  // namespace edgevit::detail
