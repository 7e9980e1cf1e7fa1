#include "bundle/manifest_reader.hpp"

#include "bundle/digest.hpp"
#include "bundle/files.hpp"
#include "bundle/forms.hpp"
#include "bundle/manifest_checks.hpp"
#include "bundle/settings_check.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

constexpr const char* kDigestKey = "manifest_sha256";
constexpr const char* kRebuild = "build the bundle again";

Value parse_document(const std::string& content, const std::string& file) {
  try {
    return parse_json(content, kMostLevels);
  } catch (const RepeatedKey& error) {
    throw Failure(EDGEVIT_UNSAFE, file + " can be read in two ways: " + error.what(), kRebuild);
  } catch (const JsonError& error) {
    throw Failure(EDGEVIT_MANIFEST, file + " is damaged: it is not JSON (" + error.what() + ")", kRebuild);
  }
}

void check_version(const Value& document, const std::string& file) {
  const Value* version = document.find("schema_version");
  if (version == nullptr || !version->whole()) {
    throw Failure(EDGEVIT_MANIFEST, file + " is not a bundle's manifest: it has no schema_version", kRebuild);
  }
  const std::string said = file + " has schema version " + version->text();
  if (*version->whole() > kSchemaVersion) {
    const Value* writer = document.find("edgevit_version");
    const std::string made_by =
        writer != nullptr && writer->is_text() ? show_name(writer->text()) : "an unknown version";
    throw Failure(EDGEVIT_SCHEMA, said + "; this edgevit reads " + std::to_string(kSchemaVersion),
                  "take the library of the edgevit that wrote it (" + made_by + ") or " + kRebuild);
  }
  if (*version->whole() < 1) throw Failure(EDGEVIT_MANIFEST, said + "; the first was 1", kRebuild);
}

void check_digest(const Value& document, const std::string& file) {
  const Value* recorded = document.find(kDigestKey);
  const std::string found = hash_text(dump_json(document, kDigestKey));
  if (recorded != nullptr && recorded->is_text() && recorded->text() == found) return;
  const std::string says = recorded == nullptr ? "none" : dump_json(*recorded, {}, 80).substr(0, 80);
  throw Failure(EDGEVIT_MANIFEST, file + " was changed: its content has the SHA-256 " + found + ", it records " + says,
                kRebuild);
}

void check_names(const Value& document, const std::string& file) {
  const Value* files = document.find("files");
  Problems unsafe;
  if (files == nullptr) return;
  if (files->keys().size() >= kMostFiles) {
    throw Failure(EDGEVIT_MANIFEST, file + " lists " + std::to_string(files->keys().size()) + " files, and " +
                                        std::to_string(kMostFiles - 1) + " are the most",
                  kRebuild);
  }
  for (const std::string& name : files->keys()) {
    const bool own = name == kManifestFile || name == kSignatureFile;
    unsafe.add_if(own || split_name(name).empty(), show_name(name));
  }
  if (unsafe.empty()) return;
  throw Failure(EDGEVIT_UNSAFE, file + " lists files with names that lead out of the bundle:\n" + unsafe.list(),
                kRebuild);
}

const Value* find(const Value& table, const char* key) {
  const Value* value = table.find(key);
  return value != nullptr && value->type() != Value::Type::null ? value : nullptr;
}

std::string read_text(const Value& table, const char* key, const char* otherwise = "") {
  const Value* value = find(table, key);
  return value != nullptr ? value->text() : otherwise;
}

std::optional<std::string> read_optional(const Value& table, const char* key) {
  const Value* value = find(table, key);
  return value != nullptr ? std::optional<std::string>(value->text()) : std::nullopt;
}

std::array<int, 3> read_batch(const Value& table) {
  std::array<int, 3> batch{1, 1, 1};
  if (const Value* value = find(table, "batch")) {
    for (size_t i = 0; i < 3; ++i) batch[i] = static_cast<int>(*value->items()[i].whole());
  }
  return batch;
}

std::vector<TensorSpec> read_specs(const Value& specs) {
  std::vector<TensorSpec> found;
  for (const Value& spec : specs.items()) {
    TensorSpec read{spec.find("name")->text(), {}, spec.find("dtype")->text()};
    for (const Value& side : spec.find("shape")->items()) read.shape.push_back(side.whole().value_or(-1));
    found.push_back(std::move(read));
  }
  return found;
}

Settings read_settings(const Value& owner) {
  Settings settings;
  const Value* table = find(owner, "settings");
  for (size_t i = 0; table != nullptr && i < table->items().size(); ++i) {
    const Value& value = table->items()[i];
    Setting& setting = settings[table->keys()[i]];
    switch (value.type()) {
      case Value::Type::text: setting = value.text(); break;
      case Value::Type::whole: setting = *value.whole(); break;
      case Value::Type::real: setting = *value.number(); break;
      default: setting = value.truth();
    }
  }
  return settings;
}

template <typename Choice>
Choice read_choice(const Value& table, const char* key, std::initializer_list<const char*> names, Choice otherwise) {
  const Value* value = find(table, key);
  int place = 0;
  for (const char* name : names) {
    if (value != nullptr && value->text() == name) return static_cast<Choice>(place);
    ++place;
  }
  return otherwise;
}

PreprocessOptions read_preprocess(const Value& table) {
  PreprocessOptions options;
  options.height = static_cast<int>(*table.find("height")->whole());
  options.width = static_cast<int>(*table.find("width")->whole());
  options.resize_height = static_cast<int>(*table.find("resize_height")->whole());
  options.resize_width = static_cast<int>(*table.find("resize_width")->whole());
  options.resize = read_choice(table, "resize", {"shortest", "longest", "squash", "crop", "pad", "none", "warp"}, Resize::none);
  options.interpolation = read_choice(
      table, "interpolation", {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}, Interpolation::bilinear);
  options.resampling = read_choice(table, "resampling", {"pillow", "torch"}, Resampling::pillow);
  options.crop_rounding = read_choice(table, "crop_rounding", {"round", "floor"}, CropRounding::round);
  if (const Value* fill = find(table, "fill")) {
    for (size_t i = 0; i < 3; ++i) options.fill[i] = static_cast<uint8_t>(*fill->items()[i].whole());
  }
  const Value* antialias = find(table, "antialias");
  options.antialias = antialias == nullptr || antialias->truth();
  return options;
}

EngineRecord read_engine(const Value& table) {
  EngineRecord engine;
  engine.backend = read_text(table, "backend");
  engine.device = read_text(table, "device");
  engine.precision = read_text(table, "precision");
  for (const Value& name : table.find("files")->items()) engine.files.push_back(name.text());
  engine.inputs = read_specs(*table.find("inputs"));
  engine.outputs = read_specs(*table.find("outputs"));
  engine.batch = read_batch(table);
  engine.settings = read_settings(table);
  const Value* versions = find(table, "versions");
  for (size_t i = 0; versions != nullptr && i < versions->items().size(); ++i) {
    engine.versions[versions->keys()[i]] = versions->items()[i].text();
  }
  if (const Value* gpu = find(table, "gpu")) {
    engine.gpu.emplace();
    engine.gpu->compute_capability = read_text(*gpu, "compute_capability");
    engine.gpu->name = read_optional(*gpu, "name");
    if (const Value* count = find(*gpu, "multiprocessors")) engine.gpu->multiprocessors = count->whole();
  }
  return engine;
}

CanaryRecord read_record(const Value& table) {
  CanaryRecord canary;
  canary.images = static_cast<int>(*table.find("images")->whole());
  canary.least_db = *table.find("least_db")->number();
  if (const Value* seen = find(table, "sqnr_db")) canary.sqnr_db = seen->number();
  canary.answers = read_text(table, "answers", "engine");
  if (const Value* place = find(table, "place")) {
    canary.place.emplace();
    canary.place->backend = read_text(*place, "backend");
    canary.place->version = read_text(*place, "version");
    canary.place->device = read_optional(*place, "device");
    canary.place->instruction_set = read_optional(*place, "instruction_set");
    canary.place->driver = read_optional(*place, "driver");
    canary.place->settings = read_settings(*place);
  }
  return canary;
}

/// What the outputs of `classify` mean; `softmax` in bundles of versions that knew nothing else.
std::string read_scores(const Value& document) {
  const Value* options = find(document, "task_options");
  const Value* scores = options != nullptr ? find(*options, "scores") : nullptr;
  return scores != nullptr && scores->is_text() && !scores->text().empty() ? scores->text() : "softmax";
}

Manifest build(const Value& document) {
  Manifest manifest;
  const Value& target = *document.find("target");
  manifest.name = read_text(document, "name");
  manifest.task = read_text(document, "task");
  manifest.created = read_text(document, "created");
  manifest.edgevit_version = read_text(document, "edgevit_version");
  manifest.target_name = read_text(target, "name");
  manifest.target_title = read_text(target, "title");
  manifest.target_backend = read_text(target, "backend");
  manifest.target_architecture = read_optional(target, "architecture");
  manifest.inputs = read_specs(*document.find("inputs"));
  manifest.outputs = read_specs(*document.find("outputs"));
  manifest.preprocess = read_preprocess(*document.find("preprocess"));
  manifest.classes = static_cast<int>(*document.find("classes")->whole());
  manifest.batch = read_batch(document);
  manifest.precision = read_text(document, "precision", "fp32");
  if (const Value* engine = find(document, "engine")) manifest.engine = read_engine(*engine);
  if (const Value* labels = find(document, "labels")) {
    manifest.labels.emplace();
    for (const Value& label : labels->items()) manifest.labels->push_back(label.text());
  }
  manifest.scores = read_scores(document);
  const Value* figures = find(document, "figures");
  manifest.figures = figures != nullptr ? dump_json(*figures) : "{}";
  if (const Value* canary = find(document, "canary")) manifest.canary = read_record(*canary);
  const Value* files = find(document, "files");
  for (size_t i = 0; files != nullptr && i < files->items().size(); ++i) {
    const Value& record = files->items()[i];
    const auto size = static_cast<uint64_t>(*record.find("size_bytes")->whole());
    manifest.files[files->keys()[i]] = {record.find("sha256")->text(), size};
  }
  manifest.schema_version = static_cast<int>(*document.find("schema_version")->whole());
  return manifest;
}

[[noreturn]] void refuse(const std::string& file, const Problems& problems) {
  const std::string count = std::to_string(problems.count());
  const std::string plural = problems.count() > 1 ? " problems:\n" : " problem:\n";
  throw Failure(EDGEVIT_MANIFEST, file + " has " + count + plural + problems.list(), kRebuild);
}

void check_needed(const Manifest& manifest, const std::string& path) {
  if (!manifest.engine) return;
  std::vector<std::string> needed = manifest.engine->files;
  if (manifest.canary) needed.emplace_back(kCanaryFile);
  Problems unlisted;
  for (const std::string& name : needed) unlisted.add_if(manifest.files.count(name) == 0, show_name(name));
  if (unlisted.empty()) return;
  throw Failure(EDGEVIT_UNSAFE, path + ": the manifest does not list what its engine needs:\n" + unlisted.list(),
                kRebuild);
}

}  // namespace

Manifest parse_manifest(const std::string& content, const std::string& path) {
  const std::string file = path + "/" + kManifestFile;
  Value document = parse_document(content, file);
  check_version(document, file);
  check_digest(document, file);
  check_names(document, file);
  document.remove(kDigestKey);
  const Problems misfits = find_misfits(kManifestForm, document);
  if (!misfits.empty()) refuse(file, misfits);
  Manifest manifest = build(document);
  manifest.sha256 = hash_text(content);
  Problems problems;
  check_target(*document.find("target"), problems);
  check_manifest(document, manifest, problems);
  if (!problems.empty()) refuse(file, problems);
  const Value& target = *document.find("target");
  check_settings(read_settings(target), manifest.target_backend, path + ": target.settings");
  if (manifest.engine) check_settings(manifest.engine->settings, manifest.engine->backend, path + ": engine.settings");
  check_needed(manifest, path);
  return manifest;
}

}  // namespace edgevit::detail
