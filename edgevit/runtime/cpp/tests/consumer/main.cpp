// Answers a grey image with whatever a bundle is for.
#include <cstdio>
#include <vector>

#include "edgevit/edgevit.hpp"

int main(int count, char** arguments) {
  try {
    const edgevit::Engine engine(count > 1 ? arguments[1] : "");
    const std::vector<uint8_t> pixels(300 * 200 * 3, 128);
    const edgevit::Image image(pixels.data(), 300, 200);
    if (engine.info().task == "classify") {
      for (const edgevit::Class& found : engine.classify(image, 2)) std::printf("%d %.6f\n", found.index, found.value);
      const auto several = engine.classify({image, image, image}, 1);
      std::printf("%zu %d\n", several.size(), several.back().front().index);
    } else if (engine.info().task == "embed") {
      std::printf("%.6f %zu\n", engine.embed(image).front(), engine.embed(std::vector<edgevit_image>{image, image}).size());
    } else {
      for (const edgevit::Tensor& map : engine.features(image)) std::printf("%s %zu\n", map.name.c_str(), map.values.size());
    }
    std::printf("%zu\n", engine.run(engine.preprocess(image)).size());
  } catch (const edgevit::Error& error) {
    std::printf("%s: %s\n%s\n", error.code(), error.sentence(), error.hint().c_str());
    return 2;
  }
}
