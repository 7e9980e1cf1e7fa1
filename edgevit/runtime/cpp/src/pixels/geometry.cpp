#include "pixels/geometry.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "failure.hpp"

namespace edgevit::detail {
namespace {

constexpr int64_t kMostPixels = 89'478'485;  // MAX_PIXELS of edgevit/pixels/decode.py

struct Size {
  int64_t height;
  int64_t width;
};

/// Python's round(): halves to even, whatever rounding the application has set.
int64_t round_half_even(double value) {
  const double below = std::floor(value);
  const double rest = value - below;
  const auto whole = static_cast<int64_t>(below);
  if (rest != 0.5) return rest < 0.5 ? whole : whole + 1;
  return whole % 2 == 0 ? whole : whole + 1;
}

/// a / b of Python's integers.
double divide(int64_t a, int64_t b) { return static_cast<double>(a) / static_cast<double>(b); }

Size find_resized(const PreprocessOptions& options, int64_t height, int64_t width) {
  switch (options.resize) {
    case Resize::none:
      return {height, width};
    case Resize::squash:
    case Resize::crop:
    case Resize::pad:
    case Resize::warp:
      return {options.resize_height, options.resize_width};
    case Resize::shortest:
      if (options.resize_height == options.resize_width) {
        const int64_t side = options.resize_height;
        if (width <= height) return {static_cast<int64_t>(divide(side * height, width)), side};
        return {side, static_cast<int64_t>(divide(side * width, height))};
      }
      break;
    case Resize::longest:
      break;
  }
  const double rows = divide(height, options.resize_height);
  const double columns = divide(width, options.resize_width);
  const double ratio = options.resize == Resize::shortest ? std::min(rows, columns) : std::max(rows, columns);
  const auto scale = [&](int64_t side) {
    return std::max<int64_t>(1, round_half_even(static_cast<double>(side) / ratio));
  };
  return {scale(height), scale(width)};
}

/// What is resized. Of `crop` the largest part with that aspect ratio, rounded as Keras does: always down.
Box find_cut(const PreprocessOptions& options, int64_t height, int64_t width) {
  const int side = static_cast<int>(std::max(height, width));
  if (options.resize == Resize::pad) return {0, 0, side, side};
  if (options.resize != Resize::crop) return {0, 0, static_cast<int>(width), static_cast<int>(height)};
  const int64_t wide = options.resize_width;
  const int64_t high = options.resize_height;
  const auto limit = [](double found, int64_t most) {
    return static_cast<int>(std::max<int64_t>(1, std::min(most, static_cast<int64_t>(found))));
  };
  const int rows = limit(divide(width * high, wide), height);
  const int columns = limit(divide(height * wide, high), width);
  const int top = (static_cast<int>(height) - rows) / 2;
  const int left = (static_cast<int>(width) - columns) / 2;
  return {left, top, left + columns, top + rows};
}

/// First row or column of the crop; negative where padding comes before the image.
int find_offset(const PreprocessOptions& options, int size, int crop) {
  if (crop > size) return -((crop - size) / 2);
  if (options.crop_rounding == CropRounding::floor) return (size - crop) / 2;
  return static_cast<int>(round_half_even((size - crop) / 2.0));
}

}  // namespace

Geometry plan_geometry(const PreprocessOptions& options, int width, int height) {
  const Size size = find_resized(options, height, width);
  Size made = size;
  const int64_t side = std::max(width, height);
  if (options.resize == Resize::pad && side * side > size.height * size.width) made = {side, side};  // as in Python
  if (made.height > kMostPixels / made.width) {
    throw Failure(EDGEVIT_IMAGE,
                  "the image: " + std::to_string(width) + " × " + std::to_string(height) + " pixels would become " +
                      std::to_string(made.width) + " × " + std::to_string(made.height) + " before the crop",
                  "crop the image to a less extreme aspect ratio");
  }
  Geometry found{};
  found.cut = find_cut(options, height, width);
  found.width = static_cast<int>(size.width);
  found.height = static_cast<int>(size.height);
  const int left = find_offset(options, found.width, options.width);
  const int top = find_offset(options, found.height, options.height);
  found.part = {std::max(0, left), std::max(0, top), std::min(found.width, left + options.width),
                std::min(found.height, top + options.height)};
  found.left = std::max(0, -left);
  found.top = std::max(0, -top);
  return found;
}

}  // namespace edgevit::detail
