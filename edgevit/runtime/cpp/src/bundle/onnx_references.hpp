// The files that an ONNX file reads beside itself: ONNX Runtime follows them wherever they lead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace edgevit::detail {

/// Locations of external data as the content states them, each once, in order. Throws std::invalid_argument: it is no
/// ONNX file, or a damaged one.
std::vector<std::string> list_references(const uint8_t* data, size_t size);

}  // namespace edgevit::detail
