// What parts of a manifest have to have to do with one another: the `__post_init__` of Python's dataclasses.
#pragma once

#include <string>

#include "bundle/bundle.hpp"
#include "bundle/json_value.hpp"
#include "bundle/problems.hpp"

namespace edgevit::detail {

/// All of it but the target. `document` is what `manifest` was read from.
void check_manifest(const Value& document, const Manifest& manifest, Problems& problems);

/// What the bundle was built for, as it stands in the document.
void check_target(const Value& target, Problems& problems);

}  // namespace edgevit::detail
