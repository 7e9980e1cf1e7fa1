// An ONNX file, of which only the references to other files are read.
#include <stdexcept>

#include "bundle/onnx_references.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    edgevit::detail::list_references(data, size);
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
