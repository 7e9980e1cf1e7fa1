// Preprocesses the cases of a file, where no Python runs: under sanitizers, and on an emulated processor.
//
//   edgevit_pixels_cases CASES RESULTS KERNELS
//
// A case is 21 numbers of 32 bits and the bytes of its image: twelve of options; width, height, stride, format and
// plane_stride; where data and both planes begin (-1: null); how many bytes there are. A result is the status, and of 0
// the pixels. The bytes lie in memory that ends where they do, and every case is computed twice.
#include <cstdio>
#include <memory>
#include <vector>

#include "failure.hpp"
#include "pixels/resample.hpp"
#include "pixels_numbers.hpp"

using namespace edgevit::detail;

int main(int count, char** words) {
  if (count != 4) return 2;
  std::FILE* cases = std::fopen(words[1], "rb");
  std::FILE* results = std::fopen(words[2], "wb");
  const Kernels* kernels = find_kernels(words[3]);
  if (!cases || !results) return 2;
  if (!kernels) return 3;
  PixelWorkspace workspace;
  workspace.parts->kernels = kernels;
  int32_t numbers[kOptionNumbers + 9];
  while (std::fread(numbers, sizeof(numbers), 1, cases) == 1) {
    const PreprocessOptions options = read_options(numbers);
    const int32_t* rest = numbers + kOptionNumbers;
    const auto size = static_cast<size_t>(rest[8]);
    const std::unique_ptr<uint8_t[]> bytes(new uint8_t[size]);
    if (std::fread(bytes.get(), 1, size, cases) != size) return 2;
    const auto at = [&](int32_t place) -> const uint8_t* { return place < 0 ? nullptr : bytes.get() + place; };
    const edgevit_image image{at(rest[5]),
                              rest[0],
                              rest[1],
                              rest[2],
                              static_cast<edgevit_format>(rest[3]),
                              {at(rest[6]), at(rest[7])},
                              rest[4]};
    const size_t wanted = static_cast<size_t>(options.height) * static_cast<size_t>(options.width) * 3;
    const std::unique_ptr<uint8_t[]> out(new uint8_t[wanted]);
    int32_t status = EDGEVIT_OK;
    for (int time = 0; time < 2; ++time) {
      try {
        Preprocessor(options).apply(image, out.get(), workspace);
      } catch (const Failure& failure) {
        status = failure.code();
      }
    }
    std::fwrite(&status, sizeof(status), 1, results);
    if (status == EDGEVIT_OK) std::fwrite(out.get(), 1, wanted, results);
  }
  std::fclose(cases);
  return std::fclose(results) == 0 ? 0 : 2;
}
