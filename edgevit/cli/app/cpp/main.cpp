// An application around a bundle of edgevit: images in, answers and milliseconds out.
//
//   build/app bundle photo.jpg another.png
// [[ camera
//   build/app bundle --camera /dev/video0
//   build/app bundle --camera FOLDER       the images of a folder, as a camera would give them
// ]]
//
// How images are resized, what classes are called and how the engine is opened stands in the bundle, so nothing of it
// stands here. Exit status: 0 done, 1 some image has no answer, 2 the bundle cannot be opened, answers cannot be written,
// or bad usage.
#include <chrono>
#include <cmath>
// [[ camera
#include <csignal>
// ]]
#include <cstdio>
// [[ camera
#include <memory>
// ]]
#include <string>
// [[ camera
#include <thread>
#include <utility>
// ]]
#include <vector>

#include <edgevit/edgevit.hpp>

// [[ camera
#include "camera.h"
// ]]
#include "decode.h"
// [[ camera
#include "frame_queue.hpp"
// ]]
#include "output.h"

namespace {

using Clock = std::chrono::steady_clock;

/// Milliseconds since `begin`, which becomes now.
double lap(Clock::time_point& begin) {
  const Clock::time_point now = Clock::now();
  const double passed = std::chrono::duration<double, std::milli>(now - begin).count();
  begin = now;
  return passed;
}

/// Pixels that are used again for the next image.
struct Picture : picture {
  Picture() : picture() {}
  // [[ !camera
  Picture(const Picture&) = delete;
  // ]]
  // [[ camera
  Picture(Picture&& other) noexcept : picture(other) { static_cast<picture&>(other) = picture(); }
  Picture& operator=(Picture&& other) noexcept {
    std::swap(static_cast<picture&>(*this), static_cast<picture&>(other));
    return *this;
  }
  // ]]
  ~Picture() { picture_free(this); }
};

// [[ classify
/// This bundle classifies: the best classes, each with index, probability, the engine's own number and name.
void print_classes(const edgevit::Engine& engine, const edgevit::Tensor& logits, int most) {
  for (const edgevit::Class& found : engine.rank(logits.values.data(), most)) {
    if (std::isnan(found.probability)) {  // the outputs are numbers, as of a regression
      std::printf("  %5d  %12.7g  ", found.index, found.value);
    } else {
      std::printf("  %5d  %8.4f %%  %12.7g  ", found.index, 100 * found.probability, found.value);
    }
    output_text(found.label);
    std::putchar('\n');
  }
}

// ]]
// [[ embed
/// This bundle gives embeddings: how long the vector is, and how it begins.
void print_embedding(const edgevit::Tensor& embedding) {
  double squares = 0;
  for (const float value : embedding.values) squares += static_cast<double>(value) * value;
  std::printf("  %zu numbers, norm %.6g:", embedding.values.size(), std::sqrt(squares));
  for (size_t i = 0; i < embedding.values.size() && i < 8; ++i) std::printf(" %.6g", embedding.values[i]);
  std::printf("%s\n", embedding.values.size() > 8 ? " ..." : "");
}

// ]]
// [[ features
/// This bundle gives feature maps: of each its name, its shape and its mean.
void print_features(const std::vector<edgevit::Tensor>& maps) {
  for (const edgevit::Tensor& map : maps) {
    std::printf("  ");
    output_text(map.name.c_str());
    std::printf("%*s", map.name.size() < 10 ? 10 - static_cast<int>(map.name.size()) : 0, "");
    for (size_t i = 1; i < map.shape.size(); ++i) {  // the first side counts the images
      std::printf("%s%lld", i == 1 ? "" : " x ", static_cast<long long>(map.shape[i]));
    }
    double sum = 0;
    for (const float value : map.values) sum += value;
    std::printf("  mean %.6g\n", sum / static_cast<double>(map.values.size()));
  }
}

// ]]
/// Everything after decoding, in two steps that are timed.
// [[ classify
/// An app that does not want to know the times calls `engine.classify(image, 5)`.
// ]]
// [[ embed
/// An app that does not want to know the times calls `engine.embed(image)`.
// ]]
// [[ features
/// An app that does not want to know the times calls `engine.features(image)`.
// ]]
std::vector<edgevit::Tensor> compute(const edgevit::Engine& engine, const edgevit::Image& image, double& resize_ms,
                                     double& engine_ms) {
  Clock::time_point clock = Clock::now();
  const std::vector<uint8_t> pixels = engine.preprocess(image);
  resize_ms = lap(clock);
  std::vector<edgevit::Tensor> outputs = engine.run(pixels);
  engine_ms = lap(clock);
  return outputs;
}

void print_answer(const edgevit::Engine& engine, const std::vector<edgevit::Tensor>& outputs, int most) {
  // [[ classify
  print_classes(engine, outputs[0], most);
  // ]]
  // [[ embed
  print_embedding(outputs[0]);
  // ]]
  // [[ features
  print_features(outputs);
  // ]]
  (void)engine;
  (void)most;
}

int answer_images(const edgevit::Engine& engine, char** paths) {
  int status = 0;
  char why[256];
  Picture photo;
  for (; *paths && !std::ferror(stdout); ++paths) {
    Clock::time_point clock = Clock::now();
    if (decode_file(*paths, &photo, why, sizeof why)) {
      std::fprintf(stderr, "error: %s: %s\n", *paths, why);
      status = 1;
      continue;
    }
    const double decode_ms = lap(clock);
    try {
      double resize_ms = 0, engine_ms = 0;
      const std::vector<edgevit::Tensor> outputs = compute(engine, photo.image, resize_ms, engine_ms);
      std::printf("%s  %d x %d  decode %.3f ms  resize %.3f ms  engine %.3f ms\n", *paths, photo.image.width,
                  photo.image.height, decode_ms, resize_ms, engine_ms);
      print_answer(engine, outputs, 5);
    } catch (const edgevit::Error& error) {  // such as of an image of one pixel's height
      std::fprintf(stderr, "error: %s: %s\nhint: %s\n", *paths, error.what(), error.hint().c_str());
      status = 1;
    }
  }
  return status;
}

// [[ camera
volatile std::sig_atomic_t stopped = 0;

void stop(int) { stopped = 1; }

/// One thread takes frames from the camera and never waits for the engine, which answers the newest ones in this one.
int answer_camera(const edgevit::Engine& engine, const char* source) {
  char why[256], problem[256] = "";
  const std::unique_ptr<camera, void (*)(camera*)> from(camera_open(source, why, sizeof why), camera_close);
  if (!from) {
    std::fprintf(stderr, "error: %s\nhint: name a device such as /dev/video0, or a folder of images\n", why);
    return 2;
  }
  std::signal(SIGINT, stop);
  std::signal(SIGTERM, stop);
  FrameQueue<Picture> queue(2);
  long taken = 0;
  std::thread capture([&] {
    Picture frame;
    int status = 1;
    while (!stopped && (status = camera_next(from.get(), &frame, problem, sizeof problem)) > 0) {
      ++taken;
      queue.push(frame);
    }
    if (status >= 0) problem[0] = '\0';
    queue.close();
  });
  long answered = 0;
  Picture frame;
  const Clock::time_point begin = Clock::now();
  std::string failure;
  while (queue.pop(frame)) {
    try {
      double resize_ms = 0, engine_ms = 0;
      const std::vector<edgevit::Tensor> outputs = compute(engine, frame.image, resize_ms, engine_ms);
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      ++answered;
      std::printf("frame %ld  %.1f frames/s  %ld dropped  resize %.3f ms  engine %.3f ms\n", answered,
                  static_cast<double>(answered) / seconds, queue.dropped(), resize_ms, engine_ms);
      print_answer(engine, outputs, 1);
      if (std::fflush(stdout)) {
        stopped = 1;
        break;
      }
    } catch (const edgevit::Error& error) {
      failure = std::string(error.what()) + "\nhint: " + error.hint();
      stopped = 1;
      break;
    }
  }
  capture.join();
  std::printf("%ld frames: %ld answered, %ld dropped\n", taken, answered, queue.dropped());
  if (failure.empty() && problem[0]) failure = std::string(problem) + "\nhint: check the camera, or the images of the folder";
  if (!failure.empty()) std::fprintf(stderr, "error: %s\n", failure.c_str());
  return failure.empty() ? 0 : 1;
}

// ]]
/// Whether the bundle is one of those that this app was made for; another one may be put in place of it.
bool check_task(const edgevit::Engine& engine, const std::string& task) {
  if (engine.info().task == task) return true;
  std::fprintf(stderr, "error: this app is for bundles of the task %s, and this one is for %s\n", task.c_str(),
               engine.info().task.c_str());
  return false;
}

/// The exit status.
int answer(char** arguments) {
  try {
    edgevit::Options options;
    // options.threads = 2;             // on a CPU; by default what was fastest when the bundle was measured
    // options.public_key = pem_text;   // refuse a bundle that was not signed with this key
    const edgevit::Engine engine(arguments[1], options);
    // [[ classify
    if (!check_task(engine, "classify")) return 2;
    // ]]
    // [[ embed
    if (!check_task(engine, "embed")) return 2;
    // ]]
    // [[ features
    if (!check_task(engine, "features")) return 2;
    // ]]
    for (const std::string& difference : engine.info().differences) {
      std::fprintf(stderr, "note: %s\n", difference.c_str());
    }
    const size_t bytes = static_cast<size_t>(engine.info().input_height) * engine.info().input_width * 3;
    engine.run(std::vector<uint8_t>(bytes));  // the first call is slower: it allocates what the others use again
    // [[ camera
    if (std::string(arguments[2]) == "--camera") return answer_camera(engine, arguments[3]);
    // ]]
    return answer_images(engine, arguments + 2);
  } catch (const edgevit::Error& error) {
    std::fprintf(stderr, "error: %s\nhint: %s\n", error.what(), error.hint().c_str());
    return 2;
  }
}

}  // namespace

int main(int count, char** arguments) {
  bool usable = count >= 3;
  // [[ camera
  const bool live = count == 4 && std::string(arguments[2]) == "--camera";
  // ]]
  for (int i = 1; i < count; ++i) {
    // [[ camera
    if (live && i == 2) continue;
    // ]]
    if (arguments[i][0] == '-') usable = false;
  }
  output_begin();
  if (!usable) {
    // [[ !camera
    std::fprintf(stderr, "usage: %s BUNDLE IMAGE...\n", arguments[0]);
    // ]]
    // [[ camera
    std::fprintf(stderr, "usage: %s BUNDLE IMAGE... | --camera DEVICE_OR_FOLDER\n", arguments[0]);
    // ]]
    return 2;
  }
  const int status = answer(arguments);
  return output_end() ? 2 : status;
}
