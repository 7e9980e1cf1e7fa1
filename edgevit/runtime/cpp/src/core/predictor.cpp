#include "core/predictor.hpp"

#include <algorithm>
#include <cstring>

#include "core/open_settings.hpp"
#include "core/processor.hpp"
#include "core/rebuild.hpp"
#include "engines/engines.hpp"
#include "failure.hpp"

namespace edgevit::detail {
namespace {

void check_count(int count) {
  if (count < 1) {
    throw Failure(EDGEVIT_ARGUMENT, std::to_string(count) + " images are none to answer", "give one image or more");
  }
}

void check_place(const void* place, const char* name) {
  if (place == nullptr) throw Failure(EDGEVIT_ARGUMENT, std::string(name) + " is NULL", "give memory for the results");
}

/// Refuses outputs that answers could not be read from.
void check_outputs(const Manifest& manifest) {
  const std::vector<TensorSpec>& outputs = manifest.outputs;
  const size_t classes = static_cast<size_t>(manifest.classes);
  const bool one = manifest.task != "classify" || (outputs.size() == 1 && count_values(outputs.front()) == classes);
  if (outputs.empty() || outputs.size() > most_outputs || !one || (manifest.labels && manifest.labels->size() != classes)) {
    throw Failure(EDGEVIT_MANIFEST,
                  "the manifest has " + std::to_string(outputs.size()) + " outputs for the task " + manifest.task + " with " +
                      std::to_string(classes) + " classes, which do not fit one another",
                  "build the bundle again");
  }
}

/// Refuses an engine that this machine cannot open, before any of its files is loaded.
void check_machine(const Bundle& bundle, const EngineLibrary& library, const EngineRecord& engine) {
  const Manifest& manifest = bundle.manifest();
  const std::string here = read_architecture();
  if (manifest.target_architecture && *manifest.target_architecture != here) {
    throw Failure(EDGEVIT_DEVICE,
                  bundle.path() + ": the bundle is for " + manifest.target_title + " (" + *manifest.target_architecture +
                      "); this machine has " + here,
                  suggest_rebuild(bundle));
  }
  if (const std::optional<Mismatch> mismatch = library.find_mismatch(engine)) {
    throw Failure(mismatch->code, bundle.path() + ": " + mismatch->sentence,
                  mismatch->hint.empty() ? suggest_rebuild(bundle) : mismatch->hint);
  }
}

}  // namespace

Predictor::Predictor(const std::string& path, const OpenOptions& options)
    : bundle_(Bundle::open(path, options.bundle)), preprocessor_(bundle_.manifest().preprocess) {
  const Manifest& manifest = bundle_.manifest();
  if (!manifest.engine) {
    throw Failure(EDGEVIT_PORTABLE, path + " is a portable bundle for " + manifest.target_title + ": it has no engine yet",
                  "run `edgevit finish " + path + "` on the device");
  }
  check_outputs(manifest);
  if (manifest.task == "classify") {
    scores_ = read_scores(manifest.scores);
    for (int i = 0; i < manifest.classes; ++i) {
      labels_.push_back(manifest.labels ? (*manifest.labels)[static_cast<size_t>(i)] : std::to_string(i));
    }
  }
  EngineRecord engine = *manifest.engine;
  for (const auto& [key, value] : options.settings) engine.settings[key] = value;
  const EngineLibrary& library = get_engine_library(engine.backend);
  check_machine(bundle_, library, engine);
  Keeping keeping;
  keeping.keep = options.canary.remember && options.bundle.verify;
  keeping.cache_folder = options.canary.cache_folder;
  session_ = std::make_unique<Session>(engine, library.open(bundle_, engine, keeping));
  const Settings& used = session_->executor().settings();
  canary_ = check_canary(bundle_, *session_, [&] { return library.describe_place(engine, used); }, options.canary);
  for (const auto& [key, value] : used) settings_.push_back(write_setting(key, value));
  differences_ = library.find_differences(*manifest.engine);
  backend_version_ = library.read_version();
}

Predictor::~Predictor() = default;

void Predictor::require(const char* task) const {
  const std::string& ours = manifest().task;
  if (ours != task) {
    const bool known = ours == "classify" || ours == "embed" || ours == "features";
    throw Failure(EDGEVIT_ARGUMENT, "the bundle of " + manifest().name + " is for the task " + ours + ", not " + task,
                  known ? "call " + ours + ", or build the checkpoint again with --task " + task
                        : "edgevit_run gives its outputs; what they say is made of them in Python only");
  }
}

int Predictor::choose_count(int k) const {
  if (k < 1) throw Failure(EDGEVIT_ARGUMENT, "k = " + std::to_string(k) + " asks for no class", "give a number from 1");
  return std::min(k, static_cast<int>(labels_.size()));
}

void Predictor::compute(Slot& slot, const edgevit_image* images, int count) {
  for (int i = 0; i < count; ++i) {
    preprocessor_.apply(images[i], slot.request->input() + static_cast<size_t>(i) * session_->image_bytes(), slot.pixels);
  }
  session_->run(slot, count);
  for (size_t i = 0; i < session_->values().size(); ++i) {
    if (!all_finite(slot.request->output(i), session_->values()[i] * static_cast<size_t>(count))) {
      throw Failure(EDGEVIT_DEVICE, "the engine gave values that are not finite numbers",
                    "run `edgevit eval` on the bundle");
    }
  }
}

int Predictor::classify(const edgevit_image* images, int count, int k, edgevit_class* classes) {
  require("classify");
  check_count(count);
  const int given = choose_count(k);
  check_place(classes, "classes");
  Session::Lease slot(*session_);
  const int largest = session_->largest_batch();
  for (int done = 0; done < count; done += largest) {
    const int part = std::min(largest, count - done);
    compute(*slot, images + done, part);
    for (int i = 0; i < part; ++i) {
      const float* logits = slot->request->output(0) + static_cast<size_t>(i) * labels_.size();
      edgevit_class* place = classes + static_cast<size_t>(done + i) * static_cast<size_t>(k);
      edgevit::detail::rank(logits, labels_, scores_, static_cast<size_t>(given), slot->order, place);
    }
  }
  return given;
}

int Predictor::rank(const float* logits, int k, edgevit_class* classes) {
  require("classify");
  const int given = choose_count(k);
  check_place(classes, "classes");
  if (!all_finite(logits, labels_.size())) {
    throw Failure(EDGEVIT_DEVICE, "the logits are not finite numbers", "run `edgevit eval` on the bundle");
  }
  Session::Lease slot(*session_);
  edgevit::detail::rank(logits, labels_, scores_, static_cast<size_t>(given), slot->order, classes);
  return given;
}

void Predictor::embed(const edgevit_image* images, int count, float* embeddings, size_t capacity) {
  require("embed");
  check_count(count);
  check_place(embeddings, "embeddings");
  const edgevit_buffer output{embeddings, capacity * sizeof(float), EDGEVIT_HOST};
  check_buffers(&output, 1, count);
  Session::Lease slot(*session_);
  const size_t values = session_->values().front();
  const int largest = session_->largest_batch();
  for (int done = 0; done < count; done += largest) {
    const int part = std::min(largest, count - done);
    compute(*slot, images + done, part);
    std::memcpy(embeddings + static_cast<size_t>(done) * values, slot->request->output(0),
                static_cast<size_t>(part) * values * sizeof(float));
  }
}

void Predictor::features(const edgevit_image* images, int count, const edgevit_buffer* outputs, int output_count) {
  require("features");
  check_count(count);
  check_buffers(outputs, output_count, count);
  for (int i = 0; i < output_count; ++i) {
    if (outputs[i].memory != EDGEVIT_HOST) {
      throw Failure(EDGEVIT_ARGUMENT, "features are written to host memory only", "use edgevit_run for a device's memory");
    }
  }
  Session::Lease slot(*session_);
  const int largest = session_->largest_batch();
  for (int done = 0; done < count; done += largest) {
    const int part = std::min(largest, count - done);
    compute(*slot, images + done, part);
    for (size_t i = 0; i < session_->values().size(); ++i) {
      const size_t values = session_->values()[i];
      std::memcpy(static_cast<float*>(outputs[i].data) + static_cast<size_t>(done) * values, slot->request->output(i),
                  static_cast<size_t>(part) * values * sizeof(float));
    }
  }
}

void Predictor::preprocess(const edgevit_image& image, uint8_t* pixels, size_t capacity) {
  check_place(pixels, "pixels");
  if (capacity < session_->image_bytes()) {
    throw Failure(EDGEVIT_ARGUMENT,
                  "the pixels need " + std::to_string(session_->image_bytes()) + " bytes, and there is room for " +
                      std::to_string(capacity),
                  "give input_height · input_width · 3 bytes");
  }
  Session::Lease slot(*session_);
  preprocessor_.apply(image, pixels, slot->pixels);
}

void Predictor::run(const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs, int output_count) {
  check_count(images);
  const size_t needed = session_->image_bytes() * static_cast<size_t>(images);
  check_place(pixels.data, "pixels");
  if (pixels.memory != EDGEVIT_OPENVINO && pixels.size_bytes < needed) {
    throw Failure(EDGEVIT_ARGUMENT,
                  std::to_string(images) + " images are " + std::to_string(needed) + " bytes, and there are " +
                      std::to_string(pixels.size_bytes),
                  "prepare each image with edgevit_preprocess");
  }
  check_buffers(outputs, output_count, images);
  bool host = pixels.memory == EDGEVIT_HOST;
  for (int i = 0; i < output_count; ++i) host = host && outputs[i].memory == EDGEVIT_HOST;
  Session::Lease slot(*session_);
  if (!host) return session_->run_in_place(*slot, pixels, images, outputs, static_cast<size_t>(output_count));
  float* places[most_outputs];
  for (int i = 0; i < output_count; ++i) places[i] = static_cast<float*>(outputs[i].data);
  session_->run(*slot, static_cast<const uint8_t*>(pixels.data), images, places);
}

void Predictor::check_buffers(const edgevit_buffer* outputs, int output_count, int images) const {
  const std::vector<TensorSpec>& specs = manifest().outputs;
  if (outputs == nullptr || output_count != static_cast<int>(specs.size())) {
    throw Failure(EDGEVIT_ARGUMENT,
                  "the bundle has " + std::to_string(specs.size()) + " outputs, and buffers are given for " +
                      std::to_string(outputs == nullptr ? 0 : output_count),
                  "give a buffer for each output, in the order of edgevit_get_output");
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    check_place(outputs[i].data, specs[i].name.c_str());
    const size_t needed = session_->values()[i] * static_cast<size_t>(images) * sizeof(float);
    if (outputs[i].memory != EDGEVIT_OPENVINO && outputs[i].size_bytes < needed) {
      throw Failure(EDGEVIT_ARGUMENT,
                    specs[i].name + " needs " + std::to_string(needed) + " bytes, and there is room for " +
                        std::to_string(outputs[i].size_bytes),
                    "see edgevit_get_output for the numbers of one image");
    }
  }
}

}  // namespace edgevit::detail
