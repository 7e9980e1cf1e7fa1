// A packed bundle: its directory, and then every file that it lists, read and mapped.
#include <cstdlib>

#include "failure.hpp"
#include "memory_file.hpp"

using namespace edgevit::detail;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto source = open_packed("bundle.edgevit", make_file(data, size), size);
    for (const std::string& name : source->list_names()) {
      const Found found = source->find(name);
      if (found.state != Found::State::here || found.part->size() > size) std::abort();
      const auto bytes = found.part->map();
      if (found.part->read_text(size) != std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()))
        std::abort();
    }
  } catch (const Failure&) {
  }
  return 0;
}
