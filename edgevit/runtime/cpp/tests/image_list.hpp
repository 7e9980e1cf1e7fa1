// A list of raw images, as benchmarks/bench_soak.py writes it: a line of it is `WIDTH HEIGHT FORMAT FILE`.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "edgevit/edgevit.hpp"

struct Given {
  std::vector<uint8_t> pixels;
  edgevit_image image;
};

/// Ends the program where a file is not of the size that its line says.
inline std::vector<Given> read_list(const char* path) {
  std::ifstream list(path);
  std::vector<Given> found;
  int width, height;
  std::string format, file;
  while (list >> width >> height >> format >> file) {
    std::ifstream raw(file, std::ios::binary);
    Given given{{std::istreambuf_iterator<char>(raw), {}}, {}};
    const bool grey = format == "GREY", alpha = format == "RGBA", bgr = format == "BGR";
    const edgevit_format layout = grey ? EDGEVIT_GREY : alpha ? EDGEVIT_RGBA : bgr ? EDGEVIT_BGR : EDGEVIT_RGB;
    const size_t channels = grey ? 1 : alpha ? 4 : 3;
    if (given.pixels.size() != static_cast<size_t>(width) * static_cast<size_t>(height) * channels) {
      std::fprintf(stderr, "%s has another size\n", file.c_str());
      std::exit(2);
    }
    given.image = edgevit::Image(given.pixels.data(), width, height, layout);
    found.push_back(std::move(given));  // the bytes stay where they are
  }
  return found;
}
