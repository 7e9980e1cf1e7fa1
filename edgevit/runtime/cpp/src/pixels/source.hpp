// Source: the caller's image, checked, as rows of RGB.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "edgevit/edgevit.h"
#include "pixels/buffer.hpp"
#include "pixels/geometry.hpp"
#include "pixels/kernels.hpp"

namespace edgevit::detail {

class Source {
 public:
  /// Throws Failure: EDGEVIT_IMAGE where there are no pixels or more than 2³⁰ bytes, EDGEVIT_ARGUMENT for a stride,
  /// format or plane that is not possible.
  ///
  /// `fill` is the colour of what lies to the right of the image and below it.
  Source(const edgevit_image& image, const Kernels& kernels, const std::array<uint8_t, 3>& fill);

  int width() const noexcept { return image_.width; }
  int height() const noexcept { return image_.height; }
  const std::array<uint8_t, 3>& fill() const noexcept { return fill_; }

  /// Where columns `first` to `last` of a row are RGB with kSlack bytes behind them that may be read: in the image
  /// itself, or in `room`, which has space for `room_for(first, last)`.
  const uint8_t* load(int row, int first, int last, uint8_t* room) const;

  static size_t room_for(int first, int last) {
    return (static_cast<size_t>(last - first + 1) * 3 + kSlack + 63) / 64 * 64;
  }

 private:
  void check_packed(int64_t row_bytes);
  void check_planes();

  edgevit_image image_;
  const Kernels* kernels_;
  std::array<uint8_t, 3> fill_;
  const uint8_t* end_ = nullptr;  // of a packed image's memory
};

/// Rows of a part of the image as they are asked for; those that were last are kept.
class RowWindow {
 public:
  struct Memory {
    Buffer rooms;
    std::vector<const uint8_t*> rows;
    std::vector<int> numbers;
  };

  /// Columns `first` to `last` of the cut, which may be larger than the image at the right and at the bottom; `kept` rows stay valid at a time.
  RowWindow(const Source& source, const Box& cut, int first, int last, int kept, Memory& memory);

  /// A row, counted from the cut's first.
  const uint8_t* get(int row);

 private:
  const uint8_t* read(int row, uint8_t* room) const;

  const Source& source_;
  int top_;
  int first_;
  int last_;
  int kept_;
  size_t room_;
  uint8_t* rooms_;
  Memory& memory_;
};

}  // namespace edgevit::detail
