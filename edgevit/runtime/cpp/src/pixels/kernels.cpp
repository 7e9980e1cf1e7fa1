#include "pixels/kernels.hpp"

#include <cstring>

namespace edgevit::detail {
namespace {

struct Choice {
  const Kernels* kernels;
  bool (*available)();
};

#if defined(EDGEVIT_X86_KERNELS)
// Each asks the processor first: an application may call from a static constructor, before the compiler's own has run.
bool has_sse41() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("sse4.1") != 0;
}
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
}
bool has_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}
#endif
bool always() { return true; }

/// The fastest first.
constexpr Choice kChoices[] = {
#if defined(EDGEVIT_X86_KERNELS)
    {&kAvx512Kernels, has_avx512},
    {&kAvx2Kernels, has_avx2},
    {&kSse41Kernels, has_sse41},
#elif defined(EDGEVIT_NEON_KERNELS)
    {&kNeonKernels, always},
#endif
    {&kScalarKernels, always},
};

}  // namespace

const Kernels& choose_kernels() {
  for (const Choice& choice : kChoices) {
    if (choice.available()) return *choice.kernels;
  }
  return kScalarKernels;
}

const Kernels* find_kernels(const char* name) {
  for (const Choice& choice : kChoices) {
    if (std::strcmp(choice.kernels->name, name) == 0 && choice.available()) return choice.kernels;
  }
  return nullptr;
}

}  // namespace edgevit::detail
