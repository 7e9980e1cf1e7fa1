// Layouts to RGB with 128-bit registers, for all kernels of x86.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgevit::detail {

void convert_bgr_x86(const uint8_t* row, size_t pixels, uint8_t* to);
void convert_rgba_x86(const uint8_t* row, size_t pixels, uint8_t* to);
void convert_bgra_x86(const uint8_t* row, size_t pixels, uint8_t* to);
void convert_grey_x86(const uint8_t* row, size_t pixels, uint8_t* to);
void convert_yuv_x86(const uint8_t* y, const uint8_t* u, const uint8_t* v, size_t step, size_t pixels, uint8_t* to);

}  // namespace edgevit::detail
