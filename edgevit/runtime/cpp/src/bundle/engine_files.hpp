// Whether an engine reads only files that its bundle lists.
#pragma once

#include <string>

#include "bundle/files.hpp"

namespace edgevit::detail {

/// OpenVINO offers a file to its readers of every format and takes weights of its name that lie beside it; ONNX Runtime
/// takes files of its own format too and follows references wherever they lead. Throws Failure, EDGEVIT_UNSAFE.
void check_engine_files(const Bundle& bundle, const Source& source);

}  // namespace edgevit::detail
