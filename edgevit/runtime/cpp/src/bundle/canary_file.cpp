#include "bundle/canary_file.hpp"

#include <cmath>
#include <cstring>

#include "bundle/little_endian.hpp"
#include "bundle/npz.hpp"
#include "bundle/problems.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

constexpr uint64_t kOverhead = 4096;  // most that a zip and an array's header add

/// An array that the file must hold.
struct Wanted {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t bytes;
  bool pixels;
};

Wanted want(const std::string& name, const TensorSpec& spec, int images, bool pixels) {
  Wanted wanted{name, {images}, pixels ? 1U : 4U, pixels};
  wanted.bytes *= static_cast<uint64_t>(images);
  for (size_t i = 1; i < spec.shape.size(); ++i) {
    const int64_t side = spec.shape[i];
    // the manifest's own check keeps the product of all sides below 2^31, so that of these stays far below 2^64
    if (side <= 0 || wanted.bytes > uint64_t{1} << 40)
      throw NpzError("the manifest gives " + show_name(spec.name) + " another shape");
    wanted.shape.push_back(side);
    wanted.bytes *= static_cast<uint64_t>(side);
  }
  return wanted;
}

std::string show_shape(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t side : shape) text += (text.empty() ? "(" : ", ") + std::to_string(side);
  return text + ")";
}

std::string_view find_array(const std::map<std::string, std::string_view>& files, const Wanted& wanted) {
  const auto file = files.find(wanted.name + ".npy");
  const std::string name = show_name(wanted.name);
  if (file == files.end()) throw NpzError("it does not hold " + name);
  const uint64_t size = file->second.size();
  if (size <= wanted.bytes || size > wanted.bytes + kOverhead) {
    throw NpzError(name + " has " + std::to_string(size) + " bytes, and needs " + std::to_string(wanted.bytes));
  }
  const Npy array = parse_npy(file->second);
  const std::string kind = wanted.pixels ? "|u1" : "<f4";
  if (array.shape != wanted.shape || array.descr != kind || (array.fortran && wanted.shape.size() > 1)) {
    throw NpzError(name + " is " + show_shape(array.shape) + " of " + show_name(array.descr) + ", not " +
                   show_shape(wanted.shape) + " of " + kind);
  }
  if (array.content.size() != wanted.bytes) throw NpzError(name + " has more or fewer values than its shape");
  return array.content;
}

std::vector<float> read_floats(std::string_view content, const std::string& name, bool reference) {
  std::vector<float> values(content.size() / 4);
  bool all_zero = true;
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t bits = read_u32(reinterpret_cast<const uint8_t*>(content.data()) + 4 * i);
    std::memcpy(&values[i], &bits, sizeof bits);
    if (!std::isfinite(values[i])) throw NpzError(show_name(name) + " has values that are not finite numbers");
    all_zero = all_zero && values[i] == 0;
  }
  if (reference && all_zero)
    throw NpzError(show_name(name) + " is zero everywhere, and nothing can be compared with it");
  return values;
}

std::vector<Wanted> list_wanted(const Manifest& manifest) {
  const int images = manifest.canary->images;
  std::vector<Wanted> wanted{want("pixels", manifest.inputs[0], images, true)};
  for (const TensorSpec& spec : manifest.outputs) {
    wanted.push_back(want("float." + spec.name, spec, images, false));
    wanted.push_back(want("built." + spec.name, spec, images, false));
  }
  return wanted;
}

Canary read(const FilePart& file, const Manifest& manifest) {
  const std::vector<Wanted> wanted = list_wanted(manifest);
  uint64_t most = 0;
  for (const Wanted& array : wanted) most += array.bytes + kOverhead;
  if (file.size() > most) {
    throw NpzError("it has " + std::to_string(file.size()) + " bytes, and what the manifest lists needs " +
                   std::to_string(most) + " at most");
  }
  const std::string data = file.read_text(most);
  const auto files = list_stored(data);
  if (files.size() != wanted.size())
    throw NpzError("it holds " + std::to_string(files.size()) + " arrays, not " + std::to_string(wanted.size()));
  Canary canary;
  for (const Wanted& array : wanted) {
    const std::string_view content = find_array(files, array);
    if (array.pixels) {
      canary.pixels.assign(content.begin(), content.end());
    } else {
      const bool reference = array.name.rfind("float.", 0) == 0;
      (reference ? canary.reference : canary.answers).push_back(read_floats(content, array.name, reference));
    }
  }
  return canary;
}

}  // namespace

Canary read_canary_file(const FilePart& file, const Manifest& manifest, const std::string& path) {
  try {
    return read(file, manifest);
  } catch (const NpzError& error) {
    throw Failure(EDGEVIT_DAMAGED, path + " cannot be read: " + error.what(), "build the bundle again");
  }
}

}  // namespace edgevit::detail
