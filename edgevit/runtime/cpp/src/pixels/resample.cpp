#include "pixels/resample.hpp"

#include <algorithm>
#include <cstring>

namespace edgevit::detail {
namespace {

/// One pass: weights, or none where its axis keeps its size.
struct Pass {
  const Weights* weights = nullptr;
  int first;  // input that is read
  int last;   // the input after the last one

  int start(int output) const { return weights ? weights->starts[output] : output; }
  int taps() const { return weights ? weights->taps : 1; }
  int inputs() const { return last - first; }
};

Pass plan_pass(const WeightKey& key, WeightCache& cache) {
  if (key.source == key.target) return {nullptr, key.begin, key.end};
  const Weights& weights = cache.find(key);
  return {&weights, weights.first, weights.last};
}

size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/// The rows that an output of the vertical pass reads. Taps beyond the last input weigh nothing, and read it again.
template <typename Get>
const uint8_t* const* list_taps(const Pass& down, int output, std::vector<const uint8_t*>& pointers, Get get) {
  pointers.resize(static_cast<size_t>(down.taps()));
  for (int k = 0; k < down.taps(); ++k) {
    pointers[static_cast<size_t>(k)] = get(std::min(down.start(output) + k, down.inputs() - 1));
  }
  return pointers.data();
}

/// Four rows through the horizontal pass, or as many as there are.
template <typename Get, typename Put>
void cross_rows(const Kernels& kernels, const Pass& across, int from, int end, Get get, Put put) {
  const uint8_t* rows[kRows];
  uint8_t* to[kRows];
  for (int i = 0; i < kRows; ++i) {
    const int row = std::min(from + i, end - 1);
    rows[i] = get(row);
    to[i] = put(row);
  }
  kernels.across(*across.weights, rows, to);
}

void cross_first(const Source& source, const Geometry& geometry, const Pass& across, const Pass& down,
                 PixelWorkspace::Parts& parts, Destination to) {
  const int width = geometry.part.width();
  const int height = geometry.part.height();
  const auto bytes = static_cast<size_t>(width) * 3;
  const Kernels& kernels = *parts.kernels;
  // Without weights a row is a tap of its own, and rows go to the result from where they are.
  const int kept = (down.taps() + 2 * kRows) / kRows * kRows;
  RowWindow window(source, geometry.cut, across.first, across.last, across.weights ? kRows : kept, parts.rows);
  const size_t stride = round_up(bytes + kSlack);
  uint8_t* between = parts.between.reserve(stride * static_cast<size_t>(kept));
  uint8_t* result = parts.results.reserve(stride);
  const auto place = [&](int row) { return between + stride * static_cast<size_t>(row % kept); };
  const auto load = [&](int row) { return window.get(down.first + row); };
  int done = 0;
  for (int y = 0; y < height; ++y) {
    const int needed = std::min(down.start(y) + down.taps(), down.inputs());
    for (; across.weights && done < needed; done = std::min(done + kRows, down.inputs())) {
      cross_rows(kernels, across, done, down.inputs(), load, place);
    }
    const uint8_t* row;
    if (down.weights) {
      const uint8_t* const* taps =
          across.weights ? list_taps(down, y, parts.pointers, [&](int i) -> const uint8_t* { return place(i); })
                         : list_taps(down, y, parts.pointers, load);
      kernels.down(*down.weights, y, taps, bytes, result);
      row = result;
    } else {
      row = across.weights ? place(y) : load(y);
    }
    std::memcpy(to.data + to.stride * static_cast<size_t>(y), row, bytes);
  }
}

void down_first(const Source& source, const Geometry& geometry, const Pass& across, const Pass& down,
                PixelWorkspace::Parts& parts, Destination to) {
  const int height = geometry.part.height();
  const auto bytes = static_cast<size_t>(geometry.part.width()) * 3;
  const auto wide = static_cast<size_t>(across.inputs()) * 3;
  const Kernels& kernels = *parts.kernels;
  RowWindow window(source, geometry.cut, across.first, across.last, down.taps(), parts.rows);
  const size_t between_stride = round_up(wide + kSlack);
  const size_t stride = round_up(bytes + kSlack);
  uint8_t* between = parts.between.reserve(between_stride * kRows);
  uint8_t* results = parts.results.reserve(stride * kRows);
  const auto load = [&](int row) { return window.get(down.first + row); };
  const auto place = [&](int row) { return between + between_stride * static_cast<size_t>(row % kRows); };
  const auto finish = [&](int row) { return results + stride * static_cast<size_t>(row % kRows); };
  for (int y = 0; y < height; ++y) {
    kernels.down(*down.weights, y, list_taps(down, y, parts.pointers, load), wide, place(y));
    if (y % kRows != kRows - 1 && y != height - 1) continue;
    const int from = y / kRows * kRows;
    if (across.weights) cross_rows(kernels, across, from, y + 1, place, finish);
    for (int i = from; i <= y; ++i) {
      std::memcpy(to.data + to.stride * static_cast<size_t>(i), across.weights ? finish(i) : place(i), bytes);
    }
  }
}

}  // namespace

void resample_filtered(const Source& source, const Geometry& geometry, Interpolation interpolation,
                       Resampling resampling, PixelWorkspace::Parts& parts, Destination to) {
  const Box& cut = geometry.cut;
  const Box& part = geometry.part;
  const bool narrow = interpolation == Interpolation::box || interpolation == Interpolation::hamming;
  if (narrow) resampling = Resampling::pillow;  // torch has neither
  const auto plan = [&](int from, int size, int begin, int end) {
    const Kernels& kernels = *parts.kernels;
    return plan_pass({interpolation, resampling, from, size, begin, end, kernels.step, kernels.digit_bits},
                     parts.weights);
  };
  const Pass across = plan(cut.width(), geometry.width, part.left, part.right);
  const Pass down = plan(cut.height(), geometry.height, part.top, part.bottom);
  const int64_t fewer_rows = cut.height() - geometry.height;
  const int64_t fewer_columns = cut.width() - geometry.width;
  if (resampling == Resampling::pillow && fewer_rows > 0 && fewer_rows > 2 * fewer_columns) {
    down_first(source, geometry, across, down, parts, to);
  } else {
    cross_first(source, geometry, across, down, parts, to);
  }
}

}  // namespace edgevit::detail
