// One engine under load, for benchmarks/bench_soak.py, which has the rule and the format of the list:
//   edgevit_soak BUNDLE LIST THREADS IMAGES [WARM_UP]
// With 0 threads it prints the numbers of each image on a line and ends.
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "edgevit/edgevit.hpp"
#include "image_list.hpp"

namespace {

constexpr int steps = 10;  // as often all threads wait and the memory is read

/// All numbers of an answer, into memory that is used again.
struct Answer {
  std::vector<edgevit_class> classes;
  std::vector<float> numbers;
  std::vector<edgevit_buffer> buffers;

  explicit Answer(const edgevit::Engine& engine) {
    size_t values = 0;
    for (const auto& output : engine.info().outputs) values += output.values;
    numbers.resize(values);
    float* at = numbers.data();
    for (const auto& output : engine.info().outputs) {
      buffers.push_back({at, output.values * sizeof(float), EDGEVIT_HOST});
      at += output.values;
    }
    classes.resize(static_cast<size_t>(engine.info().classes));
  }

  void ask(const edgevit::Engine& engine, const edgevit_image& image) {
    const std::string& task = engine.info().task;
    if (task == "classify") {
      int32_t count = 0;
      edgevit::detail::check(
          edgevit_classify(engine.get(), &image, static_cast<int32_t>(classes.size()), classes.data(), &count));
      for (const auto& one : classes) numbers[static_cast<size_t>(one.index)] = static_cast<float>(one.value);
    } else if (task == "embed") {
      edgevit::detail::check(edgevit_embed(engine.get(), &image, numbers.data(), numbers.size()));
    } else {
      edgevit::detail::check(
          edgevit_features(engine.get(), &image, buffers.data(), static_cast<int32_t>(buffers.size())));
    }
  }
};

/// All images in one call, twice, so that calls of several threads lie beside one another.
void warm(const edgevit::Engine& engine, const std::vector<Given>& given) {
  std::vector<edgevit_image> images;
  for (const Given& one : given) images.push_back(one.image);
  for (int turn = 0; turn < 2; ++turn) {
    if (engine.info().task == "classify") engine.classify(images, 1);
    if (engine.info().task == "embed") engine.embed(images);
  }
}

/// Threads wait here for one another.
class Meeting {
 public:
  explicit Meeting(int members) : members_(members) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int round = round_;
    if (++here_ == members_) {
      here_ = 0;
      ++round_;
      all_.notify_all();
    } else {
      all_.wait(lock, [&] { return round != round_; });
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  int members_, here_ = 0, round_ = 0;
};

/// Bytes that this process holds for itself.
long long read_resident() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind("RssAnon:", 0) == 0) return std::atoll(line.c_str() + 8) * 1024;
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 5) return 2;
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_ARENA_MAX, 1);
#endif
  const int threads = std::atoi(arguments[3]), images = std::atoi(arguments[4]);
  const int warm_up = count > 5 ? std::atoi(arguments[5]) : 10000;
  const int share = threads > 0 ? (images + threads * steps - 1) / (threads * steps) : 0;
  try {
    const edgevit::Engine engine(arguments[1]);
    const std::vector<Given> given = read_list(arguments[2]);
    std::vector<std::vector<float>> expected;
    for (const Given& one : given) {
      Answer answer(engine);
      answer.ask(engine, one.image);
      expected.push_back(answer.numbers);
      for (const float number : answer.numbers) {
        if (threads == 0) std::printf("%.9g ", static_cast<double>(number));
      }
      if (threads == 0) std::printf("\n");
    }
    if (threads == 0) return 0;
    const std::vector<uint8_t> prepared = engine.preprocess(given.front().image);
    std::atomic<long> wrong{0};
    Meeting meeting(threads + 1);
    const auto work = [&](int number) {
      std::minstd_rand draw(static_cast<unsigned>(number + 1));
      Answer answer(engine);
      const edgevit_buffer input{const_cast<uint8_t*>(prepared.data()), prepared.size(), EDGEVIT_HOST};
      for (int i = 0; i < warm_up / threads; ++i) {
        edgevit::detail::check(edgevit_run(engine.get(), &input, 1, answer.buffers.data(),
                                           static_cast<int32_t>(answer.buffers.size())));
      }
      meeting.wait();  // so that each has a request of its own, which sees all sizes
      warm(engine, given);
      for (int step = 0; step <= steps; ++step) {
        const int turns = step == 0 ? static_cast<int>(given.size()) : share;
        for (int i = 0; i < turns; ++i) {
          const size_t place = step == 0 ? static_cast<size_t>(i) : draw() % given.size();
          answer.ask(engine, given[place].image);
          if (std::memcmp(answer.numbers.data(), expected[place].data(), expected[place].size() * sizeof(float)) != 0) ++wrong;
        }
        meeting.wait();  // the memory is read
        meeting.wait();
      }
    };
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) workers.emplace_back(work, i);
    long long first = 0, end = 0;
    meeting.wait();
    for (int step = 0; step <= steps; ++step) {
      meeting.wait();
      end = read_resident();
      if (step == 0) first = end;
      std::printf("%d images, %.2f MiB\n", step * share * threads, static_cast<double>(end) / (1 << 20));
      std::fflush(stdout);
      meeting.wait();
    }
    for (std::thread& worker : workers) worker.join();
    std::printf("{\"images\": %d, \"wrong\": %ld, \"warm_bytes\": %lld, \"end_bytes\": %lld}\n", share * threads * steps,
                wrong.load(), first, end);
  } catch (const edgevit::Error& error) {
    std::fprintf(stderr, "%s: %s\n%s\n", error.code(), error.what(), error.hint().c_str());
    return 2;
  }
}
