// What the library adds: `start BUNDLE` answers one image and prints the milliseconds of each part; `overhead BUNDLE
// ROUNDS` lets OpenVINO's own request and edgevit_run answer in turns and prints the median microseconds of each round.
#include <openvino/openvino.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
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

int overhead(const std::string& bundle, int rounds) {
  constexpr int calls = 20;
  const edgevit::Engine engine(bundle);
  const edgevit::Info& info = engine.info();
  ov::Core core;
  ov::AnyMap config{{"PERFORMANCE_HINT", "LATENCY"},
                    {"INFERENCE_PRECISION_HINT", find_setting(info, "inference_precision")},
                    {"INFERENCE_NUM_THREADS", std::stoi(find_setting(info, "threads"))},
                    {"ENABLE_HYPER_THREADING", true}};
  auto compiled = core.compile_model(core.read_model(bundle + "/model.xml"), info.device, config);
  auto request = compiled.create_infer_request();
  std::vector<uint8_t> pixels(static_cast<size_t>(info.input_height * info.input_width * 3));
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 37 % 251);
  request.set_input_tensor(ov::Tensor(ov::element::u8, compiled.input().get_shape(), pixels.data()));
  std::vector<float> logits(info.outputs.front().values);
  const edgevit_buffer input{pixels.data(), pixels.size(), EDGEVIT_HOST};
  const edgevit_buffer output{logits.data(), logits.size() * sizeof(float), EDGEVIT_HOST};
  const auto time = [&](bool ours) {
    std::vector<double> taken;
    for (int i = 0; i < calls; ++i) {
      const auto begin = Clock::now();
      if (ours) {
        if (edgevit_run(engine.get(), &input, 1, &output, 1) != EDGEVIT_OK) std::abort();
      } else {
        request.infer();
      }
      taken.push_back(1e3 * since(begin));
    }
    std::nth_element(taken.begin(), taken.begin() + calls / 2, taken.end());
    return taken[calls / 2];
  };
  time(true), time(false);
  for (int round = 0; round < rounds; ++round) {
    const bool first = round % 2 == 0;
    const double one = time(first), other = time(!first);
    std::printf("%.2f %.2f\n", first ? one : other, first ? other : one);
  }
  const float* bare = request.get_output_tensor(0).data<float>();
  return std::memcmp(bare, logits.data(), logits.size() * sizeof(float)) == 0 ? 0 : 3;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  try {
    if (std::strcmp(arguments[1], "start") == 0) return start(arguments[2]);
    return overhead(arguments[2], count > 3 ? std::atoi(arguments[3]) : 50);
  } catch (const edgevit::Error& error) {
    std::printf("%s: %s\n%s\n", error.code(), error.sentence(), error.hint().c_str());
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
  }
  return 2;
}
