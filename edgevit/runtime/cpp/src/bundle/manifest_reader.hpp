// From the bytes of manifest.json to a Manifest.
#pragma once

#include <string>

#include "bundle/bundle.hpp"

namespace edgevit::detail {

/// Throws Failure: EDGEVIT_MANIFEST for what is no manifest, or one whose digest, types, ranges or parts do not fit;
/// EDGEVIT_SCHEMA for one of a newer edgevit; EDGEVIT_UNSAFE for a key that stands twice and for names that lead out of
/// the bundle, for settings that a bundle may not have, and where files are needed that it does not list. `path` is the
/// bundle's, for messages.
Manifest parse_manifest(const std::string& content, const std::string& path);

}  // namespace edgevit::detail
