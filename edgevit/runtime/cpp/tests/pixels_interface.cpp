// Preprocessing behind C functions, for tests that compare it with Python's and for the benchmark.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "failure.hpp"
#include "pixels/resample.hpp"
#include "pixels_numbers.hpp"

using namespace edgevit::detail;

namespace {

std::atomic<int64_t> allocations{0};

struct Handle {
  Preprocessor preprocessor;
  PixelWorkspace workspace;
  char message[1024];
};

}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  if (void* found = std::malloc(bytes > 0 ? bytes : 1)) return found;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

extern "C" {

EDGEVIT_API int64_t pixels_allocations() { return allocations; }

/// A preprocessing and its workspace; nothing where this processor does not have the kernels, by name or "" for its best.
EDGEVIT_API void* pixels_open(const int32_t* numbers, const char* kernels) {
  const Kernels* found = *kernels ? find_kernels(kernels) : &choose_kernels();
  if (found == nullptr) return nullptr;
  auto* handle = new Handle{Preprocessor(read_options(numbers)), PixelWorkspace(), {}};
  handle->workspace.parts->kernels = found;
  return handle;
}

EDGEVIT_API void pixels_close(void* handle) { delete static_cast<Handle*>(handle); }

EDGEVIT_API int pixels_apply(void* opened, const edgevit_image* image, uint8_t* out) {
  auto* handle = static_cast<Handle*>(opened);
  try {
    handle->preprocessor.apply(*image, out, handle->workspace);
    return EDGEVIT_OK;
  } catch (const Failure& failure) {
    std::strncpy(handle->message, failure.what(), sizeof(handle->message) - 1);
    return failure.code();
  }
}

EDGEVIT_API const char* pixels_message(void* handle) { return static_cast<Handle*>(handle)->message; }
}
