// Numbers and names as files have them, on a machine of any byte order.
#pragma once

#include <cstdint>
#include <string_view>

namespace edgevit::detail {

inline uint16_t read_u16(const uint8_t* at) noexcept { return static_cast<uint16_t>(at[0] | at[1] << 8); }

inline uint32_t read_u32(const uint8_t* at) noexcept {
  return read_u16(at) | static_cast<uint32_t>(read_u16(at + 2)) << 16;
}

/// Whether a text is UTF-8, of the shortest form and without halves of characters.
inline bool is_utf8(std::string_view text) noexcept {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<uint8_t>(text[i++]);
    if (first < 0x80) continue;
    const int more = first >= 0xc2 && first < 0xe0   ? 1
                     : first >= 0xe0 && first < 0xf0 ? 2
                     : first >= 0xf0 && first < 0xf5 ? 3
                                                     : 0;
    if (more == 0) return false;
    uint32_t point = first & (0x3fU >> more);
    for (int k = 0; k < more; ++k, ++i) {
      if (i >= text.size() || (static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) return false;
      point = point << 6 | (static_cast<uint8_t>(text[i]) & 0x3fU);
    }
    const bool half = point >= 0xd800 && point < 0xe000;
    if (half || point > 0x10ffff || (more == 2 && point < 0x800) || (more == 3 && point < 0x10000)) return false;
  }
  return true;
}

}  // namespace edgevit::detail
