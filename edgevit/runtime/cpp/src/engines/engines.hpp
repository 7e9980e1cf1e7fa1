// Engine libraries: those that were compiled in, one record each; as the modules of edgevit/runtime that open engines.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"
#include "core/executor.hpp"

namespace edgevit::detail {

/// Why this machine cannot open an engine, with both values.
struct Mismatch {
  edgevit_status code;
  std::string sentence;
  std::string hint;  // empty: build the bundle again
};

/// Where what is compiled may be kept.
struct Keeping {
  bool keep = false;         // the files were verified, and nobody said not to
  std::string cache_folder;  // empty: as $EDGEVIT_CACHE says
};

struct EngineLibrary {
  const char* name;  // as in a manifest

  /// The library's version, as it tells it.
  std::string (*read_version)();

  /// Why this machine cannot open the engine with its settings; nothing where it can.
  std::optional<Mismatch> (*find_mismatch)(const EngineRecord& engine);

  /// What differs from where the engine was measured, though it opens.
  std::vector<std::string> (*find_differences)(const EngineRecord& engine);

  /// Where the engine answers on this machine, opened with the settings that its session tells.
  Place (*describe_place)(const EngineRecord& engine, const Settings& settings);

  /// Loads the engine's files with `engine.settings`. Throws Failure.
  std::unique_ptr<Executor> (*open)(const Bundle& bundle, const EngineRecord& engine, const Keeping& keeping);
};

/// Names of the libraries that were compiled in.
std::vector<std::string> list_engine_libraries();

/// Throws Failure, EDGEVIT_LIBRARY: it was not compiled in, or is not known.
const EngineLibrary& get_engine_library(const std::string& name);

/// A shape of a library's; a side that may vary is -1.
using PortShapes = std::vector<std::vector<int64_t>>;

/// Compares shapes, but for the batch and for sides that may vary. Throws Failure, EDGEVIT_UNSAFE, with both shapes.
void check_ports(const Bundle& bundle, const EngineRecord& engine, const PortShapes& inputs, const PortShapes& outputs);

/// What to do about a failure of the library's: free memory where its sentence tells of that, or else build the bundle
/// again.
std::string advise(const std::string& said);

/// The leading numbers of a version: `2026.4.1-22982-releases` is {2026, 4}.
std::vector<int> parse_version(const std::string& text, size_t parts = 2);

extern const EngineLibrary openvino_library;
extern const EngineLibrary onnxruntime_library;
extern const EngineLibrary tensorrt_library;
extern const EngineLibrary tensorrt_rtx_library;

}  // namespace edgevit::detail
