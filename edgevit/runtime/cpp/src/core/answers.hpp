// From what an engine says of one image to its classes, best first; as edgevit/runtime/prediction.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "edgevit/edgevit.h"

namespace edgevit::detail {

enum class Scores { softmax, sigmoid, identity };

/// What a manifest's `scores` stand for. Throws Failure, EDGEVIT_MANIFEST, for another text.
Scores read_scores(const std::string& text);

/// Writes the `k` largest, best first and the first of equal ones first. Nothing is allocated: `order` has room for
/// `labels.size()` numbers.
///
/// logits: one for every label, finite.  k: from 1 to labels.size().
void rank(const float* logits, const std::vector<std::string>& labels, Scores scores, size_t k,
          std::vector<int32_t>& order, edgevit_class* classes);

/// Whether all numbers are finite.
bool all_finite(const float* values, size_t count);

}  // namespace edgevit::detail
