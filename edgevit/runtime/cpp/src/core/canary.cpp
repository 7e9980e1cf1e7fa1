#include "core/canary.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "bundle/digest.hpp"
#include "core/cache.hpp"
#include "core/open_settings.hpp"
#include "core/rebuild.hpp"
#include "failure.hpp"

namespace edgevit::detail {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr size_t most_files = 256;
constexpr size_t most_bytes = 4096;

std::string write_number(double value, const char* format) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string name_db(double value) { return std::isinf(value) && value > 0 ? "no noise" : write_number(value, "%.1f dB"); }

/// To two decimals, as Python's round(): the nearest decimal, and then the nearest number to that.
double round_db(double value) { return std::isfinite(value) ? std::strtod(write_number(value, "%.2f").c_str(), nullptr) : value; }

/// What is remembered is `{"passed": true, "sqnr_db": 29.85}`, or null for no noise, as Python's json.dumps writes it.
/// Nothing where it is not of this form, or the figure would not pass.
std::optional<double> recall(const std::filesystem::path& file, double least_db) {
  const std::optional<std::string> content = read_cache(file, most_bytes);
  const std::string begin = "{\"passed\": true, \"sqnr_db\": ";
  if (!content || content->compare(0, begin.size(), begin) != 0 || content->back() != '}') return std::nullopt;
  const std::string figure = content->substr(begin.size(), content->size() - begin.size() - 1);
  if (figure == "null") return infinite;
  char* end = nullptr;
  const double sqnr_db = std::strtod(figure.c_str(), &end);
  if (figure.empty() || *end != '\0' || !std::isfinite(sqnr_db) || sqnr_db < least_db) return std::nullopt;
  return sqnr_db;
}

std::string dump_memory(double sqnr_db) {
  return "{\"passed\": true, \"sqnr_db\": " + (std::isfinite(sqnr_db) ? show(Setting(sqnr_db)) : "null") + "}";
}

std::vector<std::vector<float>> answer(Session& session, const std::vector<uint8_t>& pixels, int images) {
  std::vector<std::vector<float>> answers;
  std::vector<float*> outputs;
  for (const size_t values : session.values()) answers.emplace_back(values * static_cast<size_t>(images));
  for (auto& values : answers) outputs.push_back(values.data());
  Session::Lease slot(session);
  session.run(*slot, pixels.data(), images, outputs.data());
  return answers;
}

[[noreturn]] void fail(const Bundle& bundle, const CanaryCheck& done, const std::vector<PlaceDifference>& differences) {
  const bool finite = !std::isnan(done.sqnr_db);
  std::string told;
  bool only_settings = !differences.empty();
  for (const PlaceDifference& part : differences) {
    told += (told.empty() ? "; what differs: " : "; ") + part.name + " " + part.here + ", at the build " + part.built;
    only_settings = only_settings && !part.machine;
  }
  throw Failure(
      EDGEVIT_CANARY,
      bundle.path() + ": the engine answers something else here than at the build: its answers to the canary " +
          (finite ? "have an SQNR of " + name_db(done.sqnr_db) : "are not finite numbers") + ", at the build it was " +
          name_db(done.built_db) + ", and " + write_number(done.least_db, "%.1f") + " dB is the least" +
          (told.empty() ? "; the place is the same" : told),
      only_settings ? "open it without the settings that differ, or with the check of the canary off, where that is meant"
                    : suggest_rebuild(bundle) + "; or open it with the check of the canary off");
}

}  // namespace

double measure_sqnr(const std::vector<std::vector<float>>& reference, const std::vector<std::vector<float>>& answers) {
  double worst = infinite;
  for (size_t i = 0; i < reference.size(); ++i) {
    double signal = 0, noise = 0;
    for (size_t j = 0; j < reference[i].size(); ++j) {
      const double exact = reference[i][j], found = answers[i][j];
      if (!std::isfinite(found)) return none;
      signal += exact * exact;
      noise += (exact - found) * (exact - found);
    }
    if (noise > 0) worst = std::min(worst, signal > 0 ? 10 * std::log10(signal / noise) : -infinite);
  }
  return worst;
}

CanaryCheck check_canary(const Bundle& bundle, Session& session, const std::function<Place()>& place,
                         const CanaryOptions& options) {
  const std::optional<CanaryRecord>& record = bundle.manifest().canary;
  if (!record) return {"none", none, none, none, none};
  CanaryCheck done{"not checked", none, record->sqnr_db.value_or(infinite), record->least_db, none};
  if (record->answers == "graph") done.built_db = record->sqnr_db.value_or(none);
  if (options.check == EDGEVIT_CHECK_NEVER) return done;
  const Place here = place();
  const auto differences = record->place ? compare_places(here, *record->place) : std::vector<PlaceDifference>();
  const bool automatic = options.check == EDGEVIT_CHECK_AUTO;
  if (automatic && record->place && differences.empty()) return done.status = "same place", done;
  const auto root = options.remember ? find_cache(options.cache_folder) : std::nullopt;
  const std::string key = dump_place(bundle.manifest().sha256, here);
  const std::string name = hash_text(key) + ".json";
  if (automatic && root) {
    if (const auto passed = recall(*root / "canary" / name, record->least_db)) {
      done.status = "remembered";
      done.sqnr_db = *passed;
      return done;
    }
  }
  const Canary canary = bundle.read_canary();
  const std::vector<std::vector<float>> answers = answer(session, canary.pixels, record->images);
  const double sqnr_db = measure_sqnr(canary.reference, answers);
  done.sqnr_db = round_db(sqnr_db);
  done.against_build_db = round_db(measure_sqnr(canary.answers, answers));
  done.inferences = (record->images + session.largest_batch() - 1) / session.largest_batch();
  if (!(sqnr_db >= record->least_db)) fail(bundle, done, differences);
  done.status = "passed";
  if (root) {
    CacheRules rules;
    rules.most_files = most_files;
    rules.is_own = is_canary_name;
    const std::string memory = dump_memory(done.sqnr_db);
    write_cache(*root, "canary", name, {memory}, rules);
  }
  return done;
}

}  // namespace edgevit::detail
