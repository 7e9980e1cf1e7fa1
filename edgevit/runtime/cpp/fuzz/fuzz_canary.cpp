// canary.npz, of a manifest with one image of 2 × 2 pixels and three classes.
#include <cstdlib>

#include "bundle/canary_file.hpp"
#include "failure.hpp"
#include "memory_file.hpp"

using namespace edgevit::detail;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Manifest manifest;
  manifest.inputs = {{"image", {1, 2, 2, 3}, "uint8"}};
  manifest.outputs = {{"logits", {1, 3}, "float32"}};
  manifest.canary.emplace();
  manifest.canary->images = 1;
  try {
    const Canary canary = read_canary_file(FilePart(make_file(data, size), 0, size), manifest, "canary.npz");
    if (canary.pixels.size() != 12 || canary.reference.at(0).size() != 3 || canary.answers.at(0).size() != 3)
      std::abort();
  } catch (const Failure&) {
  }
  return 0;
}
