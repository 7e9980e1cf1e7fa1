// canary.npz: images with the float model's answers and those of the build, read without trusting the file.
#pragma once

#include <string>

#include "bundle/files.hpp"

namespace edgevit::detail {

/// Every array's name, shape and type follow from the manifest. A file of another size than these need is not read at
/// all, and nothing in it is compressed, so that what is read is what is allocated. Throws Failure, EDGEVIT_DAMAGED.
Canary read_canary_file(const FilePart& file, const Manifest& manifest, const std::string& path);

}  // namespace edgevit::detail
