// Places: everything that may change what an engine answers; as edgevit/core/report/place.py.
#pragma once

#include <string>
#include <vector>

#include "bundle/bundle.hpp"

namespace edgevit::detail {

/// A part of a place that differs: what it is here, and where the bundle was judged.
struct PlaceDifference {
  std::string name, here, built;
  bool machine = false;  // library, device, instruction set or driver, not a setting
};

std::vector<PlaceDifference> compare_places(const Place& here, const Place& built);

/// `["SHA-256", {…}]`, to the byte as Python's json.dumps(…, sort_keys=True): the name of what is remembered is its hash.
/// Numbers with a fraction are written as the shortest text that reads back, which is Python's form too, but for those
/// below 1e-4 or from 1e16 on; no setting that changes answers has such a number.
std::string dump_place(const std::string& manifest_sha256, const Place& place);

}  // namespace edgevit::detail
