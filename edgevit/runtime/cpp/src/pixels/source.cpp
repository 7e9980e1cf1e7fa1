#include "pixels/source.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "failure.hpp"

namespace edgevit::detail {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 30;

/// What a caller in C may have written is not always one of the names.
edgevit_format check_format(const edgevit_image& image) {
  int number;
  static_assert(sizeof(number) == sizeof(image.format), "an enumeration of C is an int");
  std::memcpy(&number, &image.format, sizeof(number));
  if (number < EDGEVIT_RGB || number > EDGEVIT_I420) {
    throw Failure(EDGEVIT_ARGUMENT, "format " + std::to_string(number) + " of the image is unknown",
                  "give one of edgevit_format");
  }
  return image.format;
}

int64_t pixel_bytes(edgevit_format format) {
  if (format == EDGEVIT_RGB || format == EDGEVIT_BGR) return 3;
  return format == EDGEVIT_RGBA || format == EDGEVIT_BGRA ? 4 : 1;
}

bool has_planes(edgevit_format format) { return format == EDGEVIT_NV12 || format == EDGEVIT_I420; }

[[noreturn]] void refuse_stride(const char* name, ptrdiff_t stride, int64_t least) {
  throw Failure(EDGEVIT_ARGUMENT,
                std::string(name) + " = " + std::to_string(stride) + " of the image is less than the " +
                    std::to_string(least) + " bytes of a row",
                "give the bytes from a row to the next, or 0 where there are no gaps");
}

[[noreturn]] void refuse_size(const edgevit_image& image) {
  throw Failure(EDGEVIT_IMAGE,
                "the image: " + std::to_string(image.width) + " × " + std::to_string(image.height) +
                    " pixels take more than 2³⁰ bytes",
                "give a smaller image, or check its width, height and stride");
}

}  // namespace

Source::Source(const edgevit_image& image, const Kernels& kernels, const std::array<uint8_t, 3>& fill)
    : image_(image), kernels_(&kernels), fill_(fill) {
  const int64_t row_bytes = pixel_bytes(check_format(image)) * image.width;
  if (image.width < 1 || image.height < 1) {
    throw Failure(EDGEVIT_IMAGE,
                  "the image: " + std::to_string(image.width) + " × " + std::to_string(image.height) +
                      " pixels are none",
                  "give an image of at least one pixel");
  }
  if (image.data == nullptr) {
    throw Failure(EDGEVIT_ARGUMENT, "data of the image is null", "let it point to the first byte of the first row");
  }
  if (image.stride == 0) image_.stride = static_cast<ptrdiff_t>(row_bytes);
  check_packed(row_bytes);
  if (has_planes(image.format)) check_planes();
}

void Source::check_packed(int64_t row_bytes) {
  const ptrdiff_t stride = image_.stride;
  if (stride < 0 && has_planes(image_.format)) {
    throw Failure(EDGEVIT_ARGUMENT, "stride = " + std::to_string(stride) + " of an image in planes is negative",
                  "give NV12 and I420 from the first row to the last");
  }
  if (stride > -row_bytes && stride < row_bytes) refuse_stride("stride", stride, row_bytes);
  const int64_t rows = image_.height - 1;
  if (row_bytes > kMostBytes) refuse_size(image_);
  if (rows > 0 && (stride > kMostBytes / rows || stride < -(kMostBytes / rows))) refuse_size(image_);
  const int64_t whole = (stride < 0 ? -stride : stride) * rows + row_bytes;
  if (whole > kMostBytes) refuse_size(image_);
  end_ = image_.data + row_bytes + (stride > 0 ? stride * rows : 0);
}

void Source::check_planes() {
  const bool interleaved = image_.format == EDGEVIT_NV12;
  const int64_t columns = (static_cast<int64_t>(image_.width) + 1) / 2;
  const int64_t rows = (static_cast<int64_t>(image_.height) + 1) / 2;
  const int64_t least = interleaved ? columns * 2 : columns;
  if (interleaved && image_.planes[1] != nullptr) {
    throw Failure(EDGEVIT_ARGUMENT, "planes[1] of an NV12 image is not null", "give U and V interleaved in planes[0]");
  }
  if (!interleaved && (image_.planes[0] == nullptr) != (image_.planes[1] == nullptr)) {
    throw Failure(EDGEVIT_ARGUMENT, "an I420 image has one of its two planes", "give both, or neither");
  }
  ptrdiff_t& stride = image_.plane_stride;
  if (stride == 0) stride = static_cast<ptrdiff_t>(least);
  if (stride < least) refuse_stride("plane_stride", stride, least);
  if (stride > kMostBytes / rows) refuse_size(image_);
  if (image_.planes[0] == nullptr) {
    image_.planes[0] = image_.data + image_.stride * image_.height;
    if (!interleaved) image_.planes[1] = image_.planes[0] + stride * static_cast<ptrdiff_t>(rows);
  }
}

const uint8_t* Source::load(int row, int first, int last, uint8_t* room) const {
  const uint8_t* line = image_.data + image_.stride * row;
  const auto count = static_cast<size_t>(last - first);
  switch (image_.format) {
    case EDGEVIT_RGB: {
      const uint8_t* pixels = line + static_cast<ptrdiff_t>(first) * 3;
      if (static_cast<size_t>(end_ - pixels) >= count * 3 + kSlack) return pixels;
      std::memcpy(room, pixels, count * 3);
      return room;
    }
    case EDGEVIT_BGR:
      kernels_->from_bgr(line + static_cast<ptrdiff_t>(first) * 3, count, room);
      return room;
    case EDGEVIT_RGBA:
      kernels_->from_rgba(line + static_cast<ptrdiff_t>(first) * 4, count, room);
      return room;
    case EDGEVIT_BGRA:
      kernels_->from_bgra(line + static_cast<ptrdiff_t>(first) * 4, count, room);
      return room;
    case EDGEVIT_GREY:
      kernels_->from_grey(line + first, count, room);
      return room;
    case EDGEVIT_NV12:
    case EDGEVIT_I420:
      break;
  }
  const int even = first / 2 * 2;  // a value of U and V is for two columns and two rows
  const size_t step = image_.format == EDGEVIT_NV12 ? 2 : 1;
  const ptrdiff_t place = image_.plane_stride * (row / 2) + static_cast<ptrdiff_t>(even / 2 * step);
  const uint8_t* u = image_.planes[0] + place;
  const uint8_t* v = step == 2 ? u + 1 : image_.planes[1] + place;
  kernels_->from_yuv(line + even, u, v, step, static_cast<size_t>(last - even), room);
  return room + static_cast<ptrdiff_t>(first - even) * 3;
}

RowWindow::RowWindow(const Source& source, const Box& cut, int first, int last, int kept, Memory& memory)
    : source_(source),
      top_(cut.top),
      first_(cut.left + first),
      last_(cut.left + last),
      kept_(kept),
      room_(Source::room_for(first_, last_)),
      rooms_(memory.rooms.reserve(room_ * static_cast<size_t>(kept))),
      memory_(memory) {
  memory.rows.resize(static_cast<size_t>(kept));
  memory.numbers.assign(static_cast<size_t>(kept), -1);
}

const uint8_t* RowWindow::get(int row) {
  const auto slot = static_cast<size_t>(row % kept_);
  if (memory_.numbers[slot] != row) {
    memory_.rows[slot] = read(top_ + row, rooms_ + room_ * slot);
    memory_.numbers[slot] = row;
  }
  return memory_.rows[slot];
}

const uint8_t* RowWindow::read(int row, uint8_t* room) const {
  const int last = row < source_.height() ? std::max(first_, std::min(last_, source_.width())) : first_;
  const size_t inside = static_cast<size_t>(last - first_) * 3;
  const uint8_t* pixels = inside > 0 ? source_.load(row, first_, last, room) : room;
  if (last == last_) return pixels;
  if (pixels != room) std::memmove(room, pixels, inside);
  for (int column = last; column < last_; ++column) {
    std::memcpy(room + static_cast<size_t>(column - first_) * 3, source_.fill().data(), 3);
  }
  return room;
}

}  // namespace edgevit::detail
