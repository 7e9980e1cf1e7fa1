// edgevit: a bundle inside an application, in C++17. Everything is inline over the C interface of edgevit.h, whose rules
// of ownership and threads hold here: an Engine may be used by several threads, results are the caller's.
//
//   edgevit::Engine engine("bundle");
//   for (const edgevit::Class& found : engine.classify(edgevit::Image(rgb, width, height), 5))
//     std::printf("%s %.3f\n", found.label, found.probability);
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "edgevit/edgevit.h"

namespace edgevit {

/// What happened in one sentence (`what()`), and what to do about it in another.
class Error : public std::runtime_error {
 public:
  Error(edgevit_status status, const std::string& sentence, std::string hint)
      : std::runtime_error(sentence), status_(status), hint_(std::move(hint)) {}

  edgevit_status status() const noexcept { return status_; }
  /// "argument", "damaged" …: the same as `EdgevitError.code` in Python.
  const char* code() const noexcept { return edgevit_status_name(status_); }
  const char* sentence() const noexcept { return what(); }
  const std::string& hint() const noexcept { return hint_; }

 private:
  edgevit_status status_;
  std::string hint_;
};

namespace detail {
inline void check(edgevit_status status) {
  if (status != EDGEVIT_OK) throw Error(status, edgevit_last_message(), edgevit_last_hint());
}
}  // namespace detail

/// An image in the caller's memory; the fields of edgevit_image, which hold planes and strides.
struct Image : edgevit_image {
  Image(const uint8_t* bytes, int32_t columns, int32_t rows, edgevit_format layout = EDGEVIT_RGB, ptrdiff_t row_bytes = 0)
      : edgevit_image{bytes, columns, rows, row_bytes, layout, {nullptr, nullptr}, 0} {}
  Image(const edgevit_image& image) : edgevit_image(image) {}  // NOLINT: meant to convert
};

using Class = edgevit_class;

struct Options {
  std::vector<std::string> settings;  ///< "key=value": override the bundle's own
  int threads = 0;                    ///< on a CPU; 0: chosen on the device, or by the bundle
  bool verify = true;                 ///< hash every file; otherwise only presence and sizes are checked
  std::optional<std::string> public_key;  ///< PEM text: a signature by it is required. Empty text is refused
  edgevit_check check = EDGEVIT_CHECK_AUTO;
  /// For passes of the canary and what was compiled; by default as $EDGEVIT_CACHE says; empty text: nothing is kept.
  std::optional<std::string> cache_folder;
};

/// One output: float32.
struct Output {
  std::string name;
  std::vector<int64_t> shape;  ///< of one image, without the batch
  size_t values = 0;           ///< numbers of one image
};

/// What was done about the canary; figures are NaN where there are none.
struct Canary {
  std::string status;
  double sqnr_db, built_db, least_db, against_build_db;
  int inferences;
};

/// What an opened bundle is; see edgevit_info for the fields.
struct Info {
  std::string name, task, target, precision, backend, backend_version, device, scores, figures;
  int input_height, input_width, batch_least, batch_best, batch_largest, classes, streams;
  bool has_labels;
  std::vector<Output> outputs;
  std::vector<std::string> settings, differences;
  Canary canary;
};

/// A tensor of answers: (images, …) float32.
struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

/// An opened bundle. It can be moved and not copied; safe to use from several threads.
class Engine {
 public:
  /// Opens a folder or a packed file. Throws Error.
  explicit Engine(const std::string& path, const Options& options = {}) : Engine(path.c_str(), options) {}

  /// The same; NULL, as of an argument that is missing, is an Error too.
  explicit Engine(const char* path, const Options& options = {}) {
    std::vector<const char*> settings;
    for (const std::string& setting : options.settings) settings.push_back(setting.c_str());
    edgevit_options given{};
    given.struct_size = sizeof given;
    given.settings = settings.data();
    given.setting_count = settings.size();
    given.threads = options.threads;
    given.skip_hashes = options.verify ? 0 : 1;
    given.public_key = options.public_key ? options.public_key->c_str() : nullptr;
    given.check = options.check;
    given.cache_folder = options.cache_folder ? options.cache_folder->c_str() : nullptr;
    edgevit_engine* opened = nullptr;
    detail::check(edgevit_open(path, &given, &opened));
    engine_.reset(opened);
    info_ = std::make_unique<const Info>(read_info());
  }

  static Engine open(const std::string& path, const Options& options = {}) { return Engine(path, options); }

  /// The `k` most probable classes, best first. Labels live as long as the engine.
  std::vector<Class> classify(const Image& image, int k = 5) const {
    std::vector<Class> classes;
    classify(image, k, classes);
    return classes;
  }

  /// The same into a vector that is used again: nothing is allocated once it is large enough.
  void classify(const Image& image, int k, std::vector<Class>& classes) const {
    classes.resize(room(k));
    int32_t count = 0;
    detail::check(edgevit_classify(get(), &image, k < info().classes ? k : info().classes, classes.data(), &count));
    classes.resize(static_cast<size_t>(count));
  }

  /// Of several images, which may be of different sizes and formats.
  std::vector<std::vector<Class>> classify(const std::vector<edgevit_image>& images, int k = 5) const {
    if (images.empty()) return {};
    const size_t most = room(k);
    std::vector<Class> flat(images.size() * most);
    int32_t count = 0;
    detail::check(edgevit_classify_batch(get(), images.data(), static_cast<int32_t>(images.size()),
                                         k < info().classes ? k : info().classes, flat.data(), &count));
    std::vector<std::vector<Class>> answers;
    for (size_t i = 0; i < images.size(); ++i) {
      const auto first = flat.begin() + static_cast<ptrdiff_t>(i * most);
      answers.emplace_back(first, first + count);
    }
    return answers;
  }

  std::vector<float> embed(const Image& image) const {
    std::vector<float> vector(info().outputs.front().values);
    detail::check(edgevit_embed(get(), &image, vector.data(), vector.size()));
    return vector;
  }

  /// One vector after the other.
  std::vector<float> embed(const std::vector<edgevit_image>& images) const {
    if (images.empty()) return {};
    std::vector<float> vectors(info().outputs.front().values * images.size());
    const auto count = static_cast<int32_t>(images.size());
    detail::check(edgevit_embed_batch(get(), images.data(), count, vectors.data(), vectors.size()));
    return vectors;
  }

  /// Feature maps in the order of info().outputs.
  std::vector<Tensor> features(const Image& image) const {
    std::vector<edgevit_buffer> buffers;
    std::vector<Tensor> tensors = make_tensors(1, buffers);
    detail::check(edgevit_features(get(), &image, buffers.data(), static_cast<int32_t>(buffers.size())));
    return tensors;
  }

  /// From an image to the engine's input: (input_height, input_width, 3), RGB.
  std::vector<uint8_t> preprocess(const Image& image) const {
    std::vector<uint8_t> pixels(image_bytes());
    detail::check(edgevit_preprocess(get(), &image, pixels.data(), pixels.size()));
    return pixels;
  }

  /// All outputs of prepared images, (images, input_height, input_width, 3).
  std::vector<Tensor> run(const std::vector<uint8_t>& pixels) const {
    if (pixels.empty() || pixels.size() % image_bytes() != 0) {
      throw Error(EDGEVIT_ARGUMENT,
                  std::to_string(pixels.size()) + " bytes are no number of images of " + std::to_string(image_bytes()),
                  "prepare each image with preprocess()");
    }
    return run(pixels.data(), static_cast<int>(pixels.size() / image_bytes()));
  }

  std::vector<Tensor> run(const uint8_t* pixels, int images) const {
    std::vector<edgevit_buffer> buffers;
    std::vector<Tensor> tensors = make_tensors(images, buffers);
    const edgevit_buffer input{const_cast<uint8_t*>(pixels), image_bytes() * static_cast<size_t>(images > 0 ? images : 0),
                               EDGEVIT_HOST};
    detail::check(edgevit_run(get(), &input, images, buffers.data(), static_cast<int32_t>(buffers.size())));
    return tensors;
  }

  /// The classes of one image's logits.
  std::vector<Class> rank(const float* logits, int k = 5) const {
    std::vector<Class> classes(room(k));
    int32_t count = 0;
    detail::check(edgevit_rank(get(), logits, k < info().classes ? k : info().classes, classes.data(), &count));
    classes.resize(static_cast<size_t>(count));
    return classes;
  }

  /// The name of a class, or its index as text; NULL where there is no such class.
  const char* label(int index) const noexcept { return edgevit_label(engine_.get(), index); }

  const Info& info() const {
    if (!info_) throw Error(EDGEVIT_ARGUMENT, "this engine was moved from", "call the one that it was moved to");
    return *info_;
  }

  /// For calls of the C interface; the engine stays this object's.
  edgevit_engine* get() const noexcept { return engine_.get(); }

 private:
  struct Close {
    void operator()(edgevit_engine* engine) const noexcept { edgevit_close(engine); }
  };

  size_t room(int k) const { return static_cast<size_t>(k < 0 ? 0 : k < info().classes ? k : info().classes); }

  size_t image_bytes() const { return static_cast<size_t>(info().input_height) * static_cast<size_t>(info().input_width) * 3; }

  std::vector<Tensor> make_tensors(int images, std::vector<edgevit_buffer>& buffers) const {
    std::vector<Tensor> tensors;
    for (const Output& output : info().outputs) {
      Tensor tensor{output.name, output.shape, std::vector<float>(output.values * static_cast<size_t>(images > 0 ? images : 0))};
      tensor.shape.insert(tensor.shape.begin(), images);
      tensors.push_back(std::move(tensor));
    }
    for (Tensor& tensor : tensors) {
      buffers.push_back({tensor.values.data(), tensor.values.size() * sizeof(float), EDGEVIT_HOST});
    }
    return tensors;
  }

  Info read_info() const {
    edgevit_info from{};
    from.struct_size = sizeof from;
    detail::check(edgevit_get_info(get(), &from));
    edgevit_canary canary{};
    canary.struct_size = sizeof canary;
    detail::check(edgevit_get_canary(get(), &canary));
    Info info{from.name, from.task, from.target, from.precision, from.backend, from.backend_version, from.device,
              from.scores, from.figures, from.input_height, from.input_width, from.batch_least, from.batch_best,
              from.batch_largest, from.classes, from.streams, from.has_labels != 0, {}, {}, {},
              {canary.status, canary.sqnr_db, canary.built_db, canary.least_db, canary.against_build_db, canary.inferences}};
    for (int32_t i = 0; i < from.output_count; ++i) {
      edgevit_output output{};
      output.struct_size = sizeof output;
      detail::check(edgevit_get_output(get(), i, &output));
      info.outputs.push_back({output.name, {output.shape, output.shape + output.rank}, output.values});
    }
    for (int32_t i = 0; i < from.setting_count; ++i) info.settings.emplace_back(edgevit_setting(get(), i));
    for (int32_t i = 0; i < from.difference_count; ++i) info.differences.emplace_back(edgevit_difference(get(), i));
    return info;
  }

  std::unique_ptr<edgevit_engine, Close> engine_;
  std::unique_ptr<const Info> info_;
};

}  // namespace edgevit
