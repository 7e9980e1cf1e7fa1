// Compiled without fused multiplication and addition, which numpy's arithmetic does not have either.
#include <algorithm>
#include <cmath>

#include "pixels/resample.hpp"

namespace edgevit::detail {
namespace {

/// The input before each output's place, and the share of the one after it.
void find_places(int source, int target, int begin, int end, std::vector<int>& places, float* shares) {
  const double step = static_cast<double>(source) / target;
  places.resize(static_cast<size_t>(end - begin));
  for (int i = begin; i < end; ++i) {
    const double place = std::max((i + 0.5) * step - 0.5, 0.0);
    const int low = static_cast<int>(place);
    places[static_cast<size_t>(i - begin)] = low;
    shares[i - begin] = static_cast<float>(place - low);
  }
}

float blend(float first, float second, float share) { return first + (second - first) * share; }

/// To the nearest integer, halves to even, of a value from 0 to 255: the sum has no bits for a fraction.
uint8_t round_byte(float value) {
  const float whole = (value + 12582912.0F) - 12582912.0F;  // 1.5 · 2²³
  return static_cast<uint8_t>(whole);
}

}  // namespace

void resample_plain(const Source& source, const Geometry& geometry, PixelWorkspace::Parts& parts, Destination to) {
  const Box& part = geometry.part;
  const int width = geometry.cut.width();
  const int height = geometry.cut.height();
  parts.shares.resize(static_cast<size_t>(part.width()) + static_cast<size_t>(part.height()));
  float* across = parts.shares.data();
  float* down = across + part.width();
  find_places(width, geometry.width, part.left, part.right, parts.columns, across);
  find_places(height, geometry.height, part.top, part.bottom, parts.lines, down);
  const int first = parts.columns.front();
  RowWindow window(source, geometry.cut, first, std::min(parts.columns.back() + 2, width), 2, parts.rows);
  for (int y = 0; y < part.height(); ++y) {
    const int line = parts.lines[static_cast<size_t>(y)];
    const uint8_t* above = window.get(line);
    const uint8_t* below = window.get(std::min(line + 1, height - 1));
    uint8_t* result = to.data + to.stride * static_cast<size_t>(y);
    for (int x = 0; x < part.width(); ++x) {
      const int column = parts.columns[static_cast<size_t>(x)];
      const size_t left = static_cast<size_t>(column - first) * 3;
      const size_t right = column + 1 < width ? left + 3 : left;
      for (size_t c = 0; c < 3; ++c) {
        const float from = blend(above[left + c], below[left + c], down[y]);
        const float until = blend(above[right + c], below[right + c], down[y]);
        result[x * 3 + static_cast<int>(c)] = round_byte(blend(from, until, across[x]));
      }
    }
  }
}

}  // namespace edgevit::detail
