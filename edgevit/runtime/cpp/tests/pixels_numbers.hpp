// What tests hand over of a preprocessing: twelve numbers, in the order of PreprocessOptions.
#pragma once

#include <cstdint>

#include "pixels/preprocessor.hpp"

namespace edgevit::detail {

constexpr int kOptionNumbers = 12;

inline PreprocessOptions read_options(const int32_t numbers[kOptionNumbers]) {
  PreprocessOptions options;
  options.height = numbers[0];
  options.width = numbers[1];
  options.resize = static_cast<Resize>(numbers[2]);
  options.resize_height = numbers[3];
  options.resize_width = numbers[4];
  options.interpolation = static_cast<Interpolation>(numbers[5]);
  options.resampling = static_cast<Resampling>(numbers[6]);
  options.crop_rounding = static_cast<CropRounding>(numbers[7]);
  for (int i = 0; i < 3; ++i) options.fill[static_cast<size_t>(i)] = static_cast<uint8_t>(numbers[8 + i]);
  options.antialias = numbers[11] != 0;
  return options;
}

}  // namespace edgevit::detail
