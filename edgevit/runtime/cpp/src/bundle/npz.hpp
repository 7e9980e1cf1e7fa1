// Arrays of numpy's `savez`: a zip of `.npy` files of version 1.0, stored as they are.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace edgevit::detail {

/// What is wrong with a file of arrays.
class NpzError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The files of a zip by their names, within `data`. Throws NpzError: it is no zip without compression and comments,
/// has a name twice, or a file outside of it or of another checksum.
std::map<std::string, std::string_view> list_stored(std::string_view data);

/// Shape, type and content of an array.
struct Npy {
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;
  std::string_view content;
};

/// Throws NpzError: it is no array of version 1.0, or its header is another than numpy writes.
Npy parse_npy(std::string_view data);

}  // namespace edgevit::detail
