// What a manifest's `answer` may be: edgevit/core/answer.py. This library makes no answers of it; it refuses the same.
#pragma once

#include "bundle/bundle.hpp"
#include "bundle/json_value.hpp"
#include "bundle/problems.hpp"

namespace edgevit::detail {

/// `document` is what `manifest` was read from.
void check_answer(const Value& document, const Manifest& manifest, Problems& problems);

}  // namespace edgevit::detail
