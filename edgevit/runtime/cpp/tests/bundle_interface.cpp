// What tests in Python call of the bundle's part. Every text goes to the caller's buffer, cut at its size.
#include <cstring>
#include <exception>

#include <nlohmann/json.hpp>

#include "bundle/bundle.hpp"
#include "bundle/digest.hpp"
#include "bundle/json_value.hpp"
#include "bundle/onnx_references.hpp"
#include "failure.hpp"

using namespace edgevit::detail;
using nlohmann::json;

namespace {

void give(const std::string& text, char* out, size_t size) {
  const size_t count = std::min(text.size(), size - 1);
  std::memcpy(out, text.data(), count);
  out[count] = '\0';
}

json show(const Settings& settings) {
  json table = json::object();
  for (const auto& [key, setting] : settings) {
    json& value = table[key];
    std::visit([&](const auto& held) { value = held; }, setting);
  }
  return table;
}

json show(const std::vector<TensorSpec>& specs) {
  json list = json::array();
  for (const TensorSpec& spec : specs) list.push_back({spec.name, spec.shape, spec.dtype});
  return list;
}

template <typename T>
json show(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

json show(const PreprocessOptions& options) {
  return {options.height,
          options.width,
          static_cast<int>(options.resize),
          options.resize_height,
          options.resize_width,
          static_cast<int>(options.interpolation),
          static_cast<int>(options.resampling),
          static_cast<int>(options.crop_rounding),
          options.fill,
          options.antialias};
}

json show(const EngineRecord& engine) {
  json data = {{"backend", engine.backend},     {"device", engine.device},
               {"precision", engine.precision}, {"files", engine.files},
               {"inputs", show(engine.inputs)}, {"outputs", show(engine.outputs)},
               {"batch", engine.batch},         {"settings", show(engine.settings)},
               {"versions", engine.versions},   {"gpu", nullptr}};
  if (engine.gpu)
    data["gpu"] = {engine.gpu->compute_capability, show(engine.gpu->name), show(engine.gpu->multiprocessors)};
  return data;
}

json show(const CanaryRecord& canary) {
  json data = {{"images", canary.images},
               {"least_db", canary.least_db},
               {"sqnr_db", show(canary.sqnr_db)},
               {"answers", canary.answers},
               {"place", nullptr}};
  if (canary.place) {
    const Place& place = *canary.place;
    data["place"] = {place.backend,      place.version,       show(place.device), show(place.instruction_set),
                     show(place.driver), show(place.settings)};
  }
  return data;
}

json show(const Manifest& manifest) {
  json files = json::object();
  for (const auto& [name, record] : manifest.files) files[name] = {record.sha256, record.size_bytes};
  return {{"name", manifest.name},
          {"task", manifest.task},
          {"created", manifest.created},
          {"edgevit_version", manifest.edgevit_version},
          {"target",
           {manifest.target_name, manifest.target_title, manifest.target_backend, show(manifest.target_architecture)}},
          {"inputs", show(manifest.inputs)},
          {"outputs", show(manifest.outputs)},
          {"preprocess", show(manifest.preprocess)},
          {"classes", manifest.classes},
          {"batch", manifest.batch},
          {"precision", manifest.precision},
          {"engine", manifest.engine ? show(*manifest.engine) : json()},
          {"labels", show(manifest.labels)},
          {"scores", manifest.scores},
          {"figures", json::parse(manifest.figures)},
          {"canary", manifest.canary ? show(*manifest.canary) : json()},
          {"files", files},
          {"schema_version", manifest.schema_version},
          {"sha256", manifest.sha256}};
}

std::string hash(const void* data, size_t size) { return hash_text({static_cast<const char*>(data), size}); }

/// Digests of what is in the file, as the manifest's bytes and floats are.
json show(const Canary& canary) {
  json data = {hash(canary.pixels.data(), canary.pixels.size())};
  for (const auto* arrays : {&canary.reference, &canary.answers}) {
    for (const auto& values : *arrays) data.push_back(hash(values.data(), values.size() * sizeof(float)));
  }
  return data;
}

template <typename Do>
int guard(char* out, size_t size, Do run) {
  try {
    give(run(), out, size);
    return EDGEVIT_OK;
  } catch (const Failure& failure) {
    give(std::string(failure.what()) + "\nhint: " + failure.hint(), out, size);
    return failure.code();
  } catch (const std::exception& error) {
    give(error.what(), out, size);
    return EDGEVIT_ERROR;
  }
}

}  // namespace

extern "C" {

/// The manifest of a bundle, and what it holds; or the error's code, with its sentence and hint.
EDGEVIT_API int test_open_bundle(const char* path, int verify, const char* public_key, int needs_engine, char* out,
                                 size_t size) {
  return guard(out, size, [&] {
    BundleOptions options;
    options.verify = verify != 0;
    options.needs_engine = needs_engine != 0;
    if (public_key != nullptr) options.public_key = public_key;
    const Bundle bundle = Bundle::open(path, options);
    json data = show(bundle.manifest());
    json mapped = json::object();
    json paths = json::object();
    for (const auto& [name, record] : bundle.manifest().files) {
      const auto bytes = bundle.map(name);
      mapped[name] = hash(bytes->data(), bytes->size());
      paths[name] = show(bundle.file_path(name));
    }
    data["mapped"] = mapped;
    data["paths"] = paths;
    if (bundle.manifest().canary) data["canary_arrays"] = show(bundle.read_canary());
    return data.dump(-1, ' ', true, json::error_handler_t::replace);
  });
}

/// An open bundle, to be closed; null where it does not open.
EDGEVIT_API Bundle* test_keep_bundle(const char* path) {
  try {
    return new Bundle(Bundle::open(path, {}));
  } catch (const std::exception&) {
    return nullptr;
  }
}

/// The content of one of its files.
EDGEVIT_API int test_map_file(const Bundle* bundle, const char* name, char* out, size_t size) {
  return guard(out, size, [&] {
    const auto bytes = bundle->map(name);
    return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  });
}

EDGEVIT_API void test_close_bundle(Bundle* bundle) { delete bundle; }

/// A JSON text as the digest of a manifest takes it.
EDGEVIT_API int test_dump_json(const char* text, size_t length, char* out, size_t size) {
  return guard(out, size, [&] { return dump_json(parse_json({text, length}, kMostLevels)); });
}

/// Locations, one a line.
EDGEVIT_API int test_list_references(const uint8_t* data, size_t length, char* out, size_t size) {
  return guard(out, size, [&] {
    std::string all;
    for (const std::string& name : list_references(data, length)) all += name + "\n";
    return all;
  });
}
}
