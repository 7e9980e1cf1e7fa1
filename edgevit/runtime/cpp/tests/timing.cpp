// What the library adds: `start BUNDLE` answers one image and prints the milliseconds of each part; `overhead BUNDLE
// ROUNDS` lets edgevit_run and OpenVINO's own request answer in turns, both compiled in this process, and prints the
// median microseconds of each round; `kept BUNDLE ROUNDS` does so with what an earlier start kept and what is compiled.
#include <openvino/openvino.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "edgevit/edgevit.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); }

std::string find_setting(const edgevit::Info& info, const std::string& key) {
  for (const std::string& setting : info.settings) {
    if (setting.compare(0, key.size() + 1, key + "=") == 0) return setting.substr(key.size() + 1);
  }
  return "";
}

int start(const char* bundle) {
  const auto begin = Clock::now();
  const edgevit::Engine engine(bundle);
  const double opened = since(begin);
  const std::vector<uint8_t> pixels(500 * 375 * 3, 128);
  const auto found = engine.classify(edgevit::Image(pixels.data(), 500, 375), 1);
  std::printf("%.2f %.2f %.2f %d\n", opened, since(begin), 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC,
              found.front().index);
  return 0;
}

/// Two ways take turns, twenty calls each, and begin every second round.
int take_turns(int rounds, const std::function<void()>& one, const std::function<void()>& other) {
  constexpr int calls = 20;
  const auto time = [](const std::function<void()>& call) {
    std::vector<double> taken;
    for (int i = 0; i < calls; ++i) {
      const auto begin = Clock::now();
      call();
      taken.push_back(1e3 * since(begin));
    }
    std::nth_element(taken.begin(), taken.begin() + calls / 2, taken.end());
    return taken[calls / 2];
  };
  time(one), time(other);
  for (int round = 0; round < rounds; ++round) {
    const bool first = round % 2 == 0;
    const double begun = time(first ? one : other), ended = time(first ? other : one);
    std::printf("%.2f %.2f\n", first ? begun : ended, first ? ended : begun);
  }
  return 0;
}

edgevit::Engine open_compiled(const std::string& bundle) {
  edgevit::Options options;
  options.cache_folder = "";  // what was kept answers the same, and not as fast: `kept` says by how much
  return edgevit::Engine(bundle, options);
}

/// Pixels and answers of one image, and the call.
class Call {
 public:
  explicit Call(const edgevit::Engine& engine)
      : pixels(static_cast<size_t>(engine.info().input_height * engine.info().input_width * 3)),
        logits(engine.info().outputs.front().values),
        engine_(engine) {
    for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 37 % 251);
  }

  void operator()() {
    const edgevit_buffer input{pixels.data(), pixels.size(), EDGEVIT_HOST};
    const edgevit_buffer output{logits.data(), logits.size() * sizeof(float), EDGEVIT_HOST};
    if (edgevit_run(engine_.get(), &input, 1, &output, 1) != EDGEVIT_OK) std::abort();
  }

  std::vector<uint8_t> pixels;
  std::vector<float> logits;

 private:
  const edgevit::Engine& engine_;
};

int kept(const std::string& bundle, int rounds) {
  { const edgevit::Engine first(bundle); }  // keeps what it compiles
  const edgevit::Engine engine(bundle), compiled = open_compiled(bundle);
  Call ours(engine), other(compiled);
  take_turns(rounds, [&] { ours(); }, [&] { other(); });
  return ours.logits == other.logits ? 0 : 3;
}

int overhead(const std::string& bundle, int rounds) {
  const edgevit::Engine engine = open_compiled(bundle);
  const edgevit::Info& info = engine.info();
  ov::Core core;
  ov::AnyMap config{{"PERFORMANCE_HINT", "LATENCY"},
                    {"INFERENCE_PRECISION_HINT", find_setting(info, "inference_precision")},
                    {"INFERENCE_NUM_THREADS", std::stoi(find_setting(info, "threads"))},
                    {"ENABLE_HYPER_THREADING", true}};
  auto compiled = core.compile_model(core.read_model(bundle + "/model.xml"), info.device, config);
  auto request = compiled.create_infer_request();
  Call ours(engine);
  request.set_input_tensor(ov::Tensor(ov::element::u8, compiled.input().get_shape(), ours.pixels.data()));
  take_turns(rounds, [&] { ours(); }, [&] { request.infer(); });
  const float* bare = request.get_output_tensor(0).data<float>();
  return std::memcmp(bare, ours.logits.data(), ours.logits.size() * sizeof(float)) == 0 ? 0 : 3;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  try {
    if (std::strcmp(arguments[1], "start") == 0) return start(arguments[2]);
    const int rounds = count > 3 ? std::atoi(arguments[3]) : 50;
    return std::strcmp(arguments[1], "kept") == 0 ? kept(arguments[2], rounds) : overhead(arguments[2], rounds);
  } catch (const edgevit::Error& error) {
    std::printf("%s: %s\n%s\n", error.code(), error.sentence(), error.hint().c_str());
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
  }
  return 2;
}
