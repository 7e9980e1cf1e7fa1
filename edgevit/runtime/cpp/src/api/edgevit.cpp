// The C interface: every exception becomes a status, a sentence and a hint.
#include "edgevit/edgevit.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "api/version.hpp"
#include "core/open_settings.hpp"
#include "core/predictor.hpp"
#include "engines/engines.hpp"
#include "failure.hpp"

using edgevit::detail::Failure;

struct edgevit_engine {
  edgevit::detail::Predictor predictor;
};

namespace {

/// Without a destructor: a thread's first call would have to register it, for which glibc ends a process that has no
/// memory for it. Longer texts are cut.
struct LastError {
  edgevit_status status;
  char message[6144], hint[2048];
};

LastError& last_error() {
  thread_local LastError last{};
  return last;
}

template <size_t N>
void keep(char (&place)[N], const char* text) noexcept {
  size_t size = std::strlen(text);
  if (size >= N) {
    for (size = N - 1; size > 0 && (text[size] & 0xC0) == 0x80;) --size;  // no part of a character of UTF-8
  }
  std::memcpy(place, text, size);
  place[size] = '\0';
}

edgevit_status remember(edgevit_status status, const char* message, const char* hint) noexcept {
  LastError& last = last_error();
  last.status = status;
  keep(last.message, message);
  keep(last.hint, hint);
  return status;
}

template <typename F>
edgevit_status guard(F&& call) noexcept {
  try {
    call();
    return remember(EDGEVIT_OK, "", "");
  } catch (const Failure& failure) {
    return remember(failure.code(), failure.what(), failure.hint().c_str());
  } catch (const std::bad_alloc&) {
    return remember(EDGEVIT_ERROR, "there is not enough memory", "close other programs, or open fewer streams");
  } catch (const std::exception& exc) {
    return remember(EDGEVIT_ERROR, exc.what(), "this is a fault of edgevit: please report it with this sentence");
  } catch (...) {
    return remember(EDGEVIT_ERROR, "something was thrown that is no error", "please report what was called");
  }
}

void require(const void* pointer, const char* name) {
  if (pointer == nullptr) throw Failure(EDGEVIT_ARGUMENT, std::string(name) + " is NULL", "see edgevit.h for what is needed");
}

/// Writes as much of a struct as the caller knows of it.
template <typename T>
void give(T& full, T* out, const char* name) {
  require(out, name);
  const size_t size = out->struct_size;
  if (size < sizeof(size_t) || size > (size_t{1} << 16)) {
    throw Failure(EDGEVIT_ARGUMENT, std::string(name) + "->struct_size is " + std::to_string(size),
                  "set it to the struct's sizeof before the call");
  }
  full.struct_size = size;
  std::memcpy(out, &full, std::min(size, sizeof full));
}

edgevit::detail::OpenOptions read_options(const edgevit_options* given) {
  edgevit::detail::OpenOptions options;
  if (given == nullptr) return options;
  edgevit_options known{};
  if (given->struct_size < sizeof(size_t) || given->struct_size > (size_t{1} << 16)) {
    throw Failure(EDGEVIT_ARGUMENT, "options->struct_size is " + std::to_string(given->struct_size),
                  "set it to sizeof(edgevit_options), and what is not needed to 0");
  }
  std::memcpy(&known, given, std::min(given->struct_size, sizeof known));
  if (known.setting_count > 0) require(known.settings, "options->settings");
  if (known.check < EDGEVIT_CHECK_AUTO || known.check > EDGEVIT_CHECK_NEVER) {
    throw Failure(EDGEVIT_ARGUMENT, "options->check is " + std::to_string(known.check), "give one of edgevit_check");
  }
  options.settings = edgevit::detail::parse_settings(known.settings, known.setting_count);
  if (known.threads != 0) options.settings["threads"] = int64_t{known.threads};
  options.bundle.verify = known.skip_hashes == 0;
  if (known.public_key != nullptr) options.bundle.public_key = known.public_key;
  options.canary.check = known.check;
  options.canary.remember = known.cache_folder == nullptr || *known.cache_folder != '\0';
  if (known.cache_folder != nullptr) options.canary.cache_folder = known.cache_folder;
  return options;
}

}  // namespace

extern "C" {

edgevit_status edgevit_open(const char* path, const edgevit_options* options, edgevit_engine** engine) {
  return guard([&] {
    require(engine, "engine");
    *engine = nullptr;
    require(path, "path");
    *engine = new edgevit_engine{{path, read_options(options)}};
  });
}

void edgevit_close(edgevit_engine* engine) { delete engine; }

edgevit_status edgevit_classify(edgevit_engine* engine, const edgevit_image* image, int32_t k, edgevit_class* classes,
                                int32_t* count) {
  return edgevit_classify_batch(engine, image, 1, k, classes, count);
}

edgevit_status edgevit_classify_batch(edgevit_engine* engine, const edgevit_image* images, int32_t image_count, int32_t k,
                                      edgevit_class* classes, int32_t* count) {
  return guard([&] {
    require(engine, "engine");
    require(images, "image");
    const int given = engine->predictor.classify(images, image_count, k, classes);
    if (count != nullptr) *count = given;
  });
}

edgevit_status edgevit_embed(edgevit_engine* engine, const edgevit_image* image, float* embedding, size_t capacity) {
  return edgevit_embed_batch(engine, image, 1, embedding, capacity);
}

edgevit_status edgevit_embed_batch(edgevit_engine* engine, const edgevit_image* images, int32_t image_count,
                                   float* embeddings, size_t capacity) {
  return guard([&] {
    require(engine, "engine");
    require(images, "image");
    engine->predictor.embed(images, image_count, embeddings, capacity);
  });
}

edgevit_status edgevit_features(edgevit_engine* engine, const edgevit_image* image, const edgevit_buffer* outputs,
                                int32_t output_count) {
  return edgevit_features_batch(engine, image, 1, outputs, output_count);
}

edgevit_status edgevit_features_batch(edgevit_engine* engine, const edgevit_image* images, int32_t image_count,
                                      const edgevit_buffer* outputs, int32_t output_count) {
  return guard([&] {
    require(engine, "engine");
    require(images, "image");
    engine->predictor.features(images, image_count, outputs, output_count);
  });
}

edgevit_status edgevit_preprocess(edgevit_engine* engine, const edgevit_image* image, uint8_t* pixels, size_t capacity) {
  return guard([&] {
    require(engine, "engine");
    require(image, "image");
    engine->predictor.preprocess(*image, pixels, capacity);
  });
}

edgevit_status edgevit_run(edgevit_engine* engine, const edgevit_buffer* pixels, int32_t image_count,
                           const edgevit_buffer* outputs, int32_t output_count) {
  return guard([&] {
    require(engine, "engine");
    require(pixels, "pixels");
    engine->predictor.run(*pixels, image_count, outputs, output_count);
  });
}

edgevit_status edgevit_rank(edgevit_engine* engine, const float* logits, int32_t k, edgevit_class* classes,
                            int32_t* count) {
  return guard([&] {
    require(engine, "engine");
    require(logits, "logits");
    const int given = engine->predictor.rank(logits, k, classes);
    if (count != nullptr) *count = given;
  });
}

edgevit_status edgevit_get_info(const edgevit_engine* engine, edgevit_info* info) {
  return guard([&] {
    require(engine, "engine");
    const auto& predictor = engine->predictor;
    const auto& manifest = predictor.manifest();
    edgevit_info full{};
    full.name = manifest.name.c_str();
    full.task = manifest.task.c_str();
    full.target = manifest.target_name.c_str();
    full.precision = manifest.precision.c_str();
    full.backend = manifest.engine->backend.c_str();
    full.backend_version = predictor.backend_version().c_str();
    full.device = manifest.engine->device.c_str();
    full.scores = manifest.scores.c_str();
    full.figures = manifest.figures.c_str();
    full.input_height = manifest.preprocess.height;
    full.input_width = manifest.preprocess.width;
    full.batch_least = manifest.engine->batch[0];
    full.batch_best = manifest.engine->batch[1];
    full.batch_largest = manifest.engine->batch[2];
    full.classes = static_cast<int32_t>(predictor.labels().size());
    full.has_labels = manifest.labels ? 1 : 0;
    full.output_count = static_cast<int32_t>(manifest.outputs.size());
    full.setting_count = static_cast<int32_t>(predictor.settings().size());
    full.difference_count = static_cast<int32_t>(predictor.differences().size());
    full.streams = predictor.session().executor().streams();
    give(full, info, "info");
  });
}

const char* edgevit_label(const edgevit_engine* engine, int32_t index) {
  if (engine == nullptr || index < 0) return nullptr;
  const auto& labels = engine->predictor.labels();
  return static_cast<size_t>(index) < labels.size() ? labels[static_cast<size_t>(index)].c_str() : nullptr;
}

edgevit_status edgevit_get_output(const edgevit_engine* engine, int32_t index, edgevit_output* output) {
  return guard([&] {
    require(engine, "engine");
    const auto& specs = engine->predictor.manifest().outputs;
    if (index < 0 || static_cast<size_t>(index) >= specs.size()) {
      throw Failure(EDGEVIT_ARGUMENT, "there is no output " + std::to_string(index),
                    "the bundle has " + std::to_string(specs.size()) + ", from 0");
    }
    const auto& spec = specs[static_cast<size_t>(index)];
    edgevit_output full{};
    full.name = spec.name.c_str();
    full.shape = spec.shape.data() + 1;
    full.rank = static_cast<int32_t>(spec.shape.size()) - 1;
    full.values = engine->predictor.session().values()[static_cast<size_t>(index)];
    give(full, output, "output");
  });
}

edgevit_status edgevit_get_canary(const edgevit_engine* engine, edgevit_canary* canary) {
  return guard([&] {
    require(engine, "engine");
    const auto& done = engine->predictor.canary();
    edgevit_canary full{0,          done.status.c_str(), done.sqnr_db, done.built_db, done.least_db, done.against_build_db,
                        done.inferences};
    give(full, canary, "canary");
  });
}

const char* edgevit_setting(const edgevit_engine* engine, int32_t index) {
  if (engine == nullptr || index < 0) return nullptr;
  const auto& settings = engine->predictor.settings();
  return static_cast<size_t>(index) < settings.size() ? settings[static_cast<size_t>(index)].c_str() : nullptr;
}

const char* edgevit_difference(const edgevit_engine* engine, int32_t index) {
  if (engine == nullptr || index < 0) return nullptr;
  const auto& differences = engine->predictor.differences();
  return static_cast<size_t>(index) < differences.size() ? differences[static_cast<size_t>(index)].c_str() : nullptr;
}

edgevit_status edgevit_last_status(void) { return last_error().status; }

const char* edgevit_last_message(void) { return last_error().message; }

const char* edgevit_last_hint(void) { return last_error().hint; }

const char* edgevit_status_name(edgevit_status status) {
  switch (status) {
    case EDGEVIT_OK: return "ok";
    case EDGEVIT_ARGUMENT: return "argument";
    case EDGEVIT_NOT_A_BUNDLE: return "not-a-bundle";
    case EDGEVIT_MANIFEST: return "manifest";
    case EDGEVIT_SCHEMA: return "schema";
    case EDGEVIT_UNSAFE: return "unsafe";
    case EDGEVIT_DAMAGED: return "damaged";
    case EDGEVIT_SIGNATURE: return "signature";
    case EDGEVIT_PORTABLE: return "portable";
    case EDGEVIT_LIBRARY: return "library";
    case EDGEVIT_DEVICE: return "device";
    case EDGEVIT_CANARY: return "canary";
    case EDGEVIT_IMAGE: return "image";
    case EDGEVIT_ERROR: break;
  }
  return "error";
}

const char* edgevit_version(void) { return EDGEVIT_VERSION_TEXT; }

int32_t edgevit_abi_version(void) { return EDGEVIT_ABI_VERSION; }

const char* edgevit_backends(void) { return EDGEVIT_BACKENDS_TEXT; }

}  // extern "C"
