// A back end that fails: files that go while they are in use, and memory that is refused.
//   edgevit_trouble removed BUNDLE     BUNDLE is removed on the way
//   edgevit_trouble memory BUNDLE KIB     so much more than the process has, while it opens the bundle once more
//   edgevit_trouble requests BUNDLE KIB   the same while threads ask for the first time
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "edgevit/edgevit.hpp"

namespace {

const std::vector<uint8_t>& get_pixels() {
  static const std::vector<uint8_t> pixels = [] {
    std::vector<uint8_t> made(300 * 200 * 3);
    for (size_t i = 0; i < made.size(); ++i) made[i] = static_cast<uint8_t>(i * 7 % 251);
    return made;
  }();
  return pixels;
}

/// The best class, without any memory of the program's own.
struct Answer {
  edgevit_status status;
  int32_t index;
  double value;
  bool operator==(const Answer& other) const {
    return status == EDGEVIT_OK && other.status == EDGEVIT_OK && index == other.index && value == other.value;
  }
};

Answer answer(edgevit_engine* engine) {
  edgevit_class best{};
  int32_t count = 0;
  const edgevit_image image = edgevit::Image(get_pixels().data(), 300, 200);
  const edgevit_status status = edgevit_classify(engine, &image, 1, &best, &count);
  return {status, best.index, best.value};
}

int remove_in_use(const char* bundle) {
  const edgevit::Engine engine(bundle);
  const Answer before = answer(engine.get());
  std::filesystem::remove_all(bundle);
  std::vector<Answer> after(4);
  std::vector<std::thread> threads;  // each makes a request of its own
  for (Answer& found : after) threads.emplace_back([&] { found = answer(engine.get()); });
  for (std::thread& thread : threads) thread.join();
  for (const Answer& found : after) {
    if (!(found == before)) return 1;
  }
  edgevit_engine* again = nullptr;
  std::printf("%s: %s\n", edgevit_status_name(edgevit_open(bundle, nullptr, &again)), edgevit_last_message());
  return again == nullptr ? 0 : 1;
}

/// Of the whole address space.
rlim_t read_size() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("VmSize:", 0) == 0) return static_cast<rlim_t>(std::atoll(line.c_str() + 7)) * 1024;
  }
  return 0;
}

/// No more address space than there is, and some.
class Limit {
 public:
  explicit Limit(long kib) {
    getrlimit(RLIMIT_AS, &whole_);
    const rlimit some{read_size() + static_cast<rlim_t>(kib) * 1024, whole_.rlim_max};
    setrlimit(RLIMIT_AS, &some);
  }
  ~Limit() { setrlimit(RLIMIT_AS, &whole_); }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  rlimit whole_{};
};

/// Another engine answers before and after, and the same bundle opens in the end.
int refuse_memory(const char* bundle, long kib) {
  const edgevit::Engine first(bundle);
  const Answer expected = answer(first.get());
  edgevit_options options{};
  options.struct_size = sizeof options;
  options.cache_folder = "";
  edgevit_engine* engine = nullptr;
  edgevit_status status;
  {
    const Limit limit(kib);
    status = edgevit_open(bundle, &options, &engine);
  }
  std::printf("%s\n%s\n%s\n", edgevit_status_name(status), edgevit_last_hint(), edgevit_last_message());
  if ((engine == nullptr) != (status != EDGEVIT_OK)) return 1;
  if (engine != nullptr && !(answer(engine) == expected)) return 1;
  edgevit_close(engine);
  const edgevit::Engine last(bundle);
  return answer(first.get()) == expected && answer(last.get()) == expected ? 0 : 1;
}

/// Threads that are there already ask for their first requests.
int refuse_requests(const char* bundle, long kib) {
  const edgevit::Engine engine(bundle);
  const Answer expected = answer(engine.get());
  std::atomic<int> ready{0}, failed{0}, wrong{0}, done{0};
  std::atomic<bool> refused{false}, lifted{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      ++ready;
      while (!refused) std::this_thread::yield();
      if (!(answer(engine.get()) == expected)) ++failed;
      ++done;
      while (!lifted) std::this_thread::yield();
      if (!(answer(engine.get()) == expected)) ++wrong;
    });
  }
  while (ready < 6) std::this_thread::yield();
  {
    const Limit limit(kib);
    refused = true;
    while (done < 6) std::this_thread::yield();
  }
  lifted = true;
  for (std::thread& thread : threads) thread.join();
  std::printf("%d of 6 failed, %d wrong later\n", failed.load(), wrong.load());
  return wrong;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  try {
    const std::string mode = arguments[1];
    const long kib = count > 3 ? std::atol(arguments[3]) : 0;
    if (mode == "removed") return remove_in_use(arguments[2]);
    return mode == "memory" ? refuse_memory(arguments[2], kib) : refuse_requests(arguments[2], kib);
  } catch (const edgevit::Error& error) {
    std::printf("%s: %s\n", error.code(), error.what());
    return 2;
  }
}
