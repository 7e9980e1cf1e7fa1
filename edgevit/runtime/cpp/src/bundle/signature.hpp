// Whether a bundle is signed with the key that its opener trusts, before anything else of it is read.
#pragma once

#include <string>

#include "bundle/files.hpp"

namespace edgevit::detail {

/// Signed are the bytes of manifest.json, which has the hash of every other file, behind words of their own, so that a
/// signature for something else is none for a bundle. The key in signature.json proves nothing: it only tells a bundle
/// that was signed with another key from one that was altered.
///
/// Throws Failure: EDGEVIT_SIGNATURE where it is missing, malformed, of another key or does not fit; EDGEVIT_UNSAFE
/// where signature.json is no regular file; EDGEVIT_ARGUMENT where `pem` is no public key of Ed25519.
void check_signature(const Source& source, const std::string& path, const std::string& manifest,
                     const std::string& pem);

}  // namespace edgevit::detail
