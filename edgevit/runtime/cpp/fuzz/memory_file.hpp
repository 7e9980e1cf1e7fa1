// A file in memory, for what reads files.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include <sys/mman.h>
#include <unistd.h>

#include "bundle/files.hpp"

namespace edgevit::detail {

inline std::shared_ptr<const Descriptor> make_file(const uint8_t* data, size_t size) {
  const int number = memfd_create("fuzz", MFD_CLOEXEC);
  if (number < 0 || write(number, data, size) != static_cast<ssize_t>(size)) std::abort();
  return std::make_shared<const Descriptor>(number);
}

}  // namespace edgevit::detail
