// Buffer: memory that grows and is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgevit::detail {

class Buffer {
 public:
  /// At least this many bytes, at an address that 64 divides; what was in them is lost where they are moved.
  uint8_t* reserve(size_t bytes) {
    if (bytes + 63 > bytes_.size()) bytes_.resize(bytes + 63);
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    return bytes_.data() + (64 - address % 64) % 64;
  }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace edgevit::detail
