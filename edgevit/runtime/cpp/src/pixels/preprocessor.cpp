#include "pixels/preprocessor.hpp"

#include <cstring>

#include "failure.hpp"
#include "pixels/resample.hpp"

namespace edgevit::detail {
namespace {

void copy_part(const Source& source, const Geometry& geometry, PixelWorkspace::Parts& parts, Destination to) {
  const Box& part = geometry.part;
  RowWindow window(source, geometry.cut, part.left, part.right, 1, parts.rows);
  for (int y = 0; y < part.height(); ++y) {
    std::memcpy(to.data + to.stride * static_cast<size_t>(y), window.get(part.top + y),
                static_cast<size_t>(part.width()) * 3);
  }
}

void fill_around(const PreprocessOptions& options, const Geometry& geometry, uint8_t* out) {
  const Box& part = geometry.part;
  if (part.width() == options.width && part.height() == options.height) return;
  const size_t pixels = static_cast<size_t>(options.width) * static_cast<size_t>(options.height);
  for (size_t i = 0; i < pixels; ++i) std::memcpy(out + i * 3, options.fill.data(), 3);
}

}  // namespace

PixelWorkspace::PixelWorkspace() : parts(std::make_unique<Parts>()) {}
PixelWorkspace::~PixelWorkspace() = default;
PixelWorkspace::PixelWorkspace(PixelWorkspace&&) noexcept = default;
PixelWorkspace& PixelWorkspace::operator=(PixelWorkspace&&) noexcept = default;

void Preprocessor::apply(const edgevit_image& image, uint8_t* out, PixelWorkspace& workspace) const {
  if (options_.resize == Resize::warp) {
    throw Failure(EDGEVIT_ARGUMENT, "the bundle's inputs are sampled around boxes, which this library does not do",
                  "sample them in the application and call edgevit_run, or open the bundle in Python");
  }
  PixelWorkspace::Parts& parts = *workspace.parts;
  const Source source(image, *parts.kernels, options_.fill);
  const Geometry geometry = plan_geometry(options_, source.width(), source.height());
  fill_around(options_, geometry, out);
  const auto row = static_cast<size_t>(options_.width) * 3;
  const Destination to{out + row * static_cast<size_t>(geometry.top) + static_cast<size_t>(geometry.left) * 3, row};
  if (!geometry.resizes()) {
    copy_part(source, geometry, parts, to);
  } else if (!options_.antialias) {
    resample_plain(source, geometry, parts, to);
  } else if (options_.interpolation == Interpolation::nearest) {
    resample_nearest(source, geometry, parts, to);
  } else {
    resample_filtered(source, geometry, options_.interpolation, options_.resampling, parts, to);
  }
}

}  // namespace edgevit::detail
