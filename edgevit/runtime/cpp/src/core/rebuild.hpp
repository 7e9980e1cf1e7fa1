// What to do with a bundle that does not fit this machine; as edgevit/runtime/rebuild.py.
#pragma once

#include <string>

#include "bundle/bundle.hpp"

namespace edgevit::detail {

/// "build it again for this device: edgevit build …"
std::string suggest_rebuild(const Bundle& bundle);

}  // namespace edgevit::detail
