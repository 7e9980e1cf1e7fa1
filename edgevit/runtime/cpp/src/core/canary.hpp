// The canary: whether an engine answers here as it did where its bundle was judged; as edgevit/runtime/canary.py.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "core/place.hpp"
#include "core/session.hpp"

namespace edgevit::detail {

/// What was done, and what came of it. Figures are NaN where there are none; infinite where answers are equal.
struct CanaryCheck {
  std::string status;  // passed, remembered, same place, not checked, none
  double sqnr_db, built_db, least_db, against_build_db;
  int inferences = 0;
};

struct CanaryOptions {
  edgevit_check check = EDGEVIT_CHECK_AUTO;
  bool remember = true;
  std::string cache_folder;  // empty: as $EDGEVIT_CACHE says
};

/// SQNR in dB of the output with most noise: infinite where all answers are equal, NaN where some are no finite numbers.
double measure_sqnr(const std::vector<std::vector<float>>& reference, const std::vector<std::vector<float>>& answers);

/// Answers the canary where there is reason to. Throws Failure, EDGEVIT_CANARY, where it fails: with the figures here and
/// at the build, and with what differs; EDGEVIT_DAMAGED where the canary's file is not as the manifest says.
///
/// place: where the engine answers here; asked for only where it is needed.
CanaryCheck check_canary(const Bundle& bundle, Session& session, const std::function<Place()>& place,
                         const CanaryOptions& options);

}  // namespace edgevit::detail
