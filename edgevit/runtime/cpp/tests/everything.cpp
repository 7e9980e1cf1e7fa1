// Everything that an app may do, side by side and wrongly, for sanitizers, which end it where they find something:
//   edgevit_everything BUNDLE ROUNDS [LIST]
// A line of the list is `CODE PATH [KEY]`: what opening it answers ("*": whatever), and a file with a public key.
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "edgevit/edgevit.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/// TBB opens a library of its own in a manner that sanitizers refuse.
extern "C" __attribute__((visibility("default"))) void* dlopen(const char* file, int flags) {
  static auto* const next = reinterpret_cast<void* (*)(const char*, int)>(dlsym(RTLD_NEXT, "dlopen"));
  return next(file, flags & ~RTLD_DEEPBIND);
}
#endif

namespace {

std::atomic<int> faults{0};

void expect(bool holds, const char* what) {
  if (holds) return;
  ++faults;
  std::printf("%s: %s\n", what, edgevit_last_message());
}

void expect_code(edgevit_status status, const std::string& code, const char* what) {
  expect(code == edgevit_status_name(status), what);
  expect(edgevit_last_status() == status, what);
  expect((*edgevit_last_message() == '\0') == (status == EDGEVIT_OK), what);
  expect((*edgevit_last_hint() == '\0') == (status == EDGEVIT_OK), what);
}

/// An image in memory of exactly its own size.
struct Photo {
  std::vector<uint8_t> bytes;
  edgevit_image image;
};

std::vector<Photo> make_photos() {
  std::vector<Photo> photos;
  const int sizes[][2] = {{1, 1}, {224, 224}, {9, 301}, {500, 40}, {333, 217}, {1300, 9}, {17, 16}};
  for (int format = EDGEVIT_RGB; format <= EDGEVIT_I420; ++format) {
    for (const auto& [width, height] : sizes) {
      const size_t half = static_cast<size_t>((width + 1) / 2) * static_cast<size_t>((height + 1) / 2);
      const size_t area = static_cast<size_t>(width) * static_cast<size_t>(height);
      const size_t channels = format == EDGEVIT_RGB || format == EDGEVIT_BGR ? 3 : format <= EDGEVIT_BGRA ? 4 : 1;
      Photo photo{std::vector<uint8_t>(format >= EDGEVIT_NV12 ? area + 2 * half : area * channels), {}};
      for (size_t i = 0; i < photo.bytes.size(); ++i) photo.bytes[i] = static_cast<uint8_t>(i * 2654435761U >> 13);
      photo.image = edgevit::Image(photo.bytes.data(), width, height, static_cast<edgevit_format>(format));
      if (format < EDGEVIT_NV12 && photos.size() % 3 == 1) {  // upside down
        const auto stride = static_cast<ptrdiff_t>(channels) * width;
        photo.image.data += stride * (height - 1);
        photo.image.stride = -stride;
      }
      photos.push_back(std::move(photo));
    }
  }
  return photos;
}

/// Everything that is a caller's mistake.
void make_mistakes(edgevit_engine* engine, const edgevit_image& image) {
  edgevit_class classes[5];
  int32_t count = 0;
  float number = 0;
  uint8_t byte = 0;
  edgevit_image bad = image;
  expect_code(edgevit_classify(nullptr, &image, 5, classes, &count), "argument", "no engine");
  expect_code(edgevit_classify(engine, nullptr, 5, classes, &count), "argument", "no image");
  expect_code(edgevit_classify(engine, &image, 0, classes, &count), "argument", "no class");
  expect_code(edgevit_classify(engine, &image, 5, nullptr, &count), "argument", "no place");
  expect_code(edgevit_classify_batch(engine, &image, -1, 5, classes, &count), "argument", "no images");
  expect_code(edgevit_embed(engine, &image, &number, 1), "argument", "another task");
  expect_code(edgevit_features(engine, &image, nullptr, 0), "argument", "another task");
  expect_code(edgevit_preprocess(engine, &image, &byte, 1), "argument", "no room");
  bad.width = 0;
  expect_code(edgevit_classify(engine, &bad, 5, classes, &count), "image", "no width");
  bad = image;
  bad.height = -3;
  expect_code(edgevit_classify(engine, &bad, 5, classes, &count), "image", "no height");
  bad = image;
  bad.format = static_cast<edgevit_format>(99);
  expect_code(edgevit_classify(engine, &bad, 5, classes, &count), "argument", "no format");
  bad = image;
  bad.data = nullptr;
  expect_code(edgevit_classify(engine, &bad, 5, classes, &count), "argument", "no pixels");
  const edgevit_buffer pixels{&byte, 1, EDGEVIT_HOST}, output{&number, sizeof number, EDGEVIT_CUDA};
  expect_code(edgevit_run(engine, &pixels, 1, &output, 1), "argument", "too few pixels");
  expect_code(edgevit_run(engine, &pixels, 0, &output, 1), "argument", "none to run");
  edgevit_info info{};
  expect_code(edgevit_get_info(engine, &info), "argument", "no size");
  expect_code(edgevit_get_info(engine, nullptr), "argument", "no info");
  expect(edgevit_label(engine, -1) == nullptr && edgevit_label(engine, 1 << 30) == nullptr, "labels");
  expect(edgevit_setting(engine, 1 << 30) == nullptr && edgevit_difference(engine, -1) == nullptr, "settings");
  edgevit_engine* opened = engine;
  edgevit_options options{};
  expect_code(edgevit_open("x", &options, &opened), "argument", "no size of options");
  expect(opened == nullptr, "an engine where it failed");
  options.struct_size = sizeof options;
  const char* settings[] = {"speed=3", "threads=0", "hint", ""};
  options.settings = settings;
  options.setting_count = 4;
  expect_code(edgevit_open("x", &options, &opened), "argument", "settings");
  expect_code(edgevit_open("no/such/place", nullptr, &opened), "not-a-bundle", "no bundle");
  expect_code(edgevit_open(nullptr, nullptr, &opened), "argument", "no path");
  expect_code(edgevit_open("x", nullptr, nullptr), "argument", "no place for an engine");
  edgevit_close(nullptr);
}

void open_all(const char* list) {
  std::ifstream lines(list);
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string code, path, key, text;
    words >> code >> path >> key;
    edgevit_options options{};
    options.struct_size = sizeof options;
    options.check = EDGEVIT_CHECK_ALWAYS;
    if (!key.empty()) {
      std::ifstream file(key, std::ios::binary);
      text.assign(std::istreambuf_iterator<char>(file), {});
      options.public_key = text.c_str();
    }
    edgevit_engine* engine = nullptr;
    const edgevit_status status = edgevit_open(path.c_str(), &options, &engine);
    expect_code(status, code == "*" ? edgevit_status_name(status) : code, path.c_str());
    edgevit_close(engine);
  }
}

bool equal(const std::vector<edgevit::Class>& one, const std::vector<edgevit::Class>& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [](const auto& a, const auto& b) {
    return a.index == b.index && std::memcmp(&a.value, &b.value, sizeof a.value) == 0 && std::strcmp(a.label, b.label) == 0;
  });
}

void use(const std::string& bundle, int rounds, const char* list) {
  const std::vector<Photo> photos = make_photos();
  const edgevit::Engine engine(bundle);
  std::vector<std::vector<edgevit::Class>> expected;
  for (const Photo& photo : photos) expected.push_back(engine.classify(photo.image, 3));
  std::vector<edgevit_image> few;
  for (size_t i = 0; i < photos.size(); i += 9) few.push_back(photos[i].image);
  const auto answer = [&](size_t offset) {
    for (size_t i = 0; i < static_cast<size_t>(rounds) * photos.size(); ++i) {
      const size_t at = (i * 5 + offset * 11) % photos.size();
      expect(equal(engine.classify(photos[at].image, 3), expected[at]), "another answer");
      if (i % 50 == offset) {
        make_mistakes(engine.get(), photos[at].image);
        const std::vector<uint8_t> pixels = engine.preprocess(photos[at].image);
        expect(equal(engine.rank(engine.run(pixels).front().values.data(), 3), expected[at]), "another answer by parts");
        const auto together = engine.classify(few, 3);
        for (size_t j = 0; j < few.size(); ++j) expect(equal(together[j], expected[j * 9]), "another answer together");
      }
    }
  };
  const auto open = [&] {
    for (int i = 0; i < rounds * 2; ++i) {
      edgevit::Options options;
      options.threads = i % 2 + 1;
      options.check = EDGEVIT_CHECK_ALWAYS;
      options.cache_folder = i % 3 == 0 ? "" : bundle + ".cache";
      edgevit::Engine other(bundle, options), moved(std::move(other));
      expect(moved.classify(photos[1].image, 3).size() == 3, "classes");
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) threads.emplace_back(answer, i);
  threads.emplace_back(open);
  threads.emplace_back(open);
  if (list != nullptr) open_all(list);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  try {
    use(arguments[1], std::atoi(arguments[2]), count > 3 ? arguments[3] : nullptr);
  } catch (const edgevit::Error& error) {
    std::printf("%s: %s\n", error.code(), error.what());
    return 2;
  }
  std::printf("%d faults\n", faults.load());
  return faults == 0 ? 0 : 1;
}
