#include <algorithm>
#include <cstring>

#include "pixels/resample.hpp"

namespace edgevit::detail {
namespace {

/// The input of each output from `begin` to `end`; -1 where the sum of steps has run past the last one by rounding.
/// Steps are added up from the first output on, as Pillow does.
void find_nearest(int source, int target, int begin, int end, std::vector<int>& places) {
  const double step = static_cast<double>(static_cast<float>(source)) / target;
  places.resize(static_cast<size_t>(end - begin));
  double at = step * 0.5;
  for (int i = 0; i < end; ++i, at += step) {
    if (i < begin) continue;
    const int place = static_cast<int>(at);
    places[static_cast<size_t>(i - begin)] = place < source ? place : -1;
  }
}

}  // namespace

void resample_nearest(const Source& source, const Geometry& geometry, PixelWorkspace::Parts& parts, Destination to) {
  const Box& part = geometry.part;
  find_nearest(geometry.cut.width(), geometry.width, part.left, part.right, parts.columns);
  find_nearest(geometry.cut.height(), geometry.height, part.top, part.bottom, parts.lines);
  const int first = std::max(parts.columns.front(), 0);
  const int last = *std::max_element(parts.columns.begin(), parts.columns.end()) + 1;
  RowWindow window(source, geometry.cut, first, std::max(last, first + 1), 1, parts.rows);
  for (size_t y = 0; y < parts.lines.size(); ++y) {
    uint8_t* result = to.data + to.stride * y;
    if (y > 0 && parts.lines[y] == parts.lines[y - 1]) {
      std::memcpy(result, result - to.stride, parts.columns.size() * 3);
      continue;
    }
    const uint8_t* row = parts.lines[y] < 0 ? nullptr : window.get(parts.lines[y]);
    for (const int column : parts.columns) {
      const uint8_t* pixel = row == nullptr || column < 0 ? nullptr : row + static_cast<size_t>(column - first) * 3;
      result[0] = pixel ? pixel[0] : 0;
      result[1] = pixel ? pixel[1] : 0;
      result[2] = pixel ? pixel[2] : 0;
      result += 3;
    }
  }
}

}  // namespace edgevit::detail
