// What a bundle answers to images, for tests that compare machines:
//   edgevit_answers BUNDLE LIST OUT [KEY=VALUE …]
// OUT gets of each image the prepared pixels, then all outputs in float32. A line is printed of the place and the canary.
#include <sys/utsname.h>

#include <cstdio>
#include <fstream>
#include <vector>

#include "edgevit/edgevit.hpp"
#include "image_list.hpp"

int main(int count, char** arguments) {
  if (count < 4) return 2;
  try {
    edgevit::Options options;
    options.settings.assign(arguments + 4, arguments + count);
    const edgevit::Engine engine(arguments[1], options);
    std::ofstream out(arguments[3], std::ios::binary);
    for (const Given& given : read_list(arguments[2])) {
      const std::vector<uint8_t> pixels = engine.preprocess(given.image);
      out.write(reinterpret_cast<const char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
      for (const edgevit::Tensor& tensor : engine.run(pixels)) {
        out.write(reinterpret_cast<const char*>(tensor.values.data()),
                  static_cast<std::streamsize>(tensor.values.size() * sizeof(float)));
      }
    }
    const edgevit::Info& info = engine.info();
    utsname system{};
    uname(&system);
    std::printf("%s, %s %s, canary %s\n", system.machine, info.backend.c_str(), info.backend_version.c_str(), info.canary.status.c_str());
    return out.flush() ? 0 : 2;
  } catch (const edgevit::Error& error) {
    std::fprintf(stderr, "%s: %s\n%s\n", error.code(), error.what(), error.hint().c_str());
    return 2;
  }
}
