// What an app may do wrong: each line is what it was, and the code of the error.
#include <cstdio>
#include <functional>
#include <utility>
#include <vector>

#include "edgevit/edgevit.hpp"

namespace {

void tell(const char* what, const std::function<void()>& call) {
  try {
    call();
    std::printf("%s: nothing\n", what);
  } catch (const edgevit::Error& error) {
    std::printf("%s: %s\n", what, error.code());
  }
}

}  // namespace

int main(int, char** arguments) {
  const char* const bundle = arguments[1];
  tell("no path", [] { edgevit::Engine engine(nullptr); });
  tell("a key file that was not there", [&] {
    edgevit::Options options;
    options.public_key = "";
    edgevit::Engine engine(bundle, options);
  });
  edgevit::Options options;
  options.cache_folder = "";
  edgevit::Engine engine(bundle, options);
  tell("no images", [&] { engine.classify(std::vector<edgevit_image>{}); });
  const edgevit::Engine other = std::move(engine);
  const std::vector<uint8_t> pixels(12);
  tell("moved to", [&] { other.classify(edgevit::Image(pixels.data(), 2, 2)); });
  tell("moved from", [&] { engine.classify(edgevit::Image(pixels.data(), 2, 2)); });
}
