#include "core/answers.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "failure.hpp"

namespace edgevit::detail {

Scores read_scores(const std::string& text) {
  if (text == "softmax") return Scores::softmax;
  if (text == "sigmoid") return Scores::sigmoid;
  if (text == "identity") return Scores::identity;
  throw Failure(EDGEVIT_MANIFEST, "the manifest's scores are " + text + ", which is not softmax, sigmoid or identity",
                "build the bundle again");
}

void rank(const float* logits, const std::vector<std::string>& labels, Scores scores, size_t k,
          std::vector<int32_t>& order, edgevit_class* classes) {
  const size_t count = labels.size();
  order.resize(count);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(k), order.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  const double largest = logits[order.front()];
  double sum = 0;
  if (scores == Scores::softmax) {
    for (size_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
  }
  for (size_t i = 0; i < k; ++i) {
    const auto index = static_cast<size_t>(order[i]);
    const double value = logits[index];
    double probability = std::numeric_limits<double>::quiet_NaN();
    if (scores == Scores::softmax) probability = std::exp(value - largest) / sum;
    if (scores == Scores::sigmoid) probability = 0.5 * (1 + std::tanh(0.5 * value));  // overflows nowhere in this form
    classes[i] = {labels[index].c_str(), order[i], probability, value};
  }
}

bool all_finite(const float* values, size_t count) {
  uint32_t found = 0;
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    found |= (bits & 0x7F800000U) == 0x7F800000U ? 1U : 0U;
  }
  return found == 0;
}

}  // namespace edgevit::detail
