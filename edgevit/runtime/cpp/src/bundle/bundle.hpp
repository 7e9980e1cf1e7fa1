// Bundle: what a folder or a packed file holds, read without trusting any of it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pixels/preprocessor.hpp"

namespace edgevit::detail {

using Setting = std::variant<std::string, int64_t, double, bool>;
using Settings = std::map<std::string, Setting>;

/// Name, shape and type; a side that may vary is -1.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;
};

struct GpuRecord {
  std::string compute_capability;
  std::optional<std::string> name;
  std::optional<int64_t> multiprocessors;
};

struct EngineRecord {
  std::string backend;
  std::string device;
  std::string precision;
  std::vector<std::string> files;  // the first is the one to open
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  std::array<int, 3> batch{1, 1, 1};  // least, best, largest
  Settings settings;
  std::map<std::string, std::string> versions;
  std::optional<GpuRecord> gpu;
};

/// Where an engine answers: whatever may make its answers others; as Place in Python.
struct Place {
  std::string backend;
  std::string version;
  std::optional<std::string> device;
  std::optional<std::string> instruction_set;
  std::optional<std::string> driver;
  Settings settings;
};

struct CanaryRecord {
  int images = 0;
  double least_db = 0;
  std::optional<double> sqnr_db;
  std::string answers;
  std::optional<Place> place;
};

struct FileRecord {
  std::string sha256;
  uint64_t size_bytes = 0;
};

/// What a bundle is; fields as in `edgevit.runtime.manifest.Manifest`.
struct Manifest {
  std::string name;
  std::string task;
  std::string created;
  std::string edgevit_version;
  std::string target_name;
  std::string target_title;
  std::string target_backend;
  std::optional<std::string> target_architecture;
  std::vector<TensorSpec> inputs;
  std::vector<TensorSpec> outputs;
  PreprocessOptions preprocess;
  int classes = 0;
  std::array<int, 3> batch{1, 1, 1};
  std::string precision;
  std::optional<EngineRecord> engine;
  std::optional<std::vector<std::string>> labels;
  std::string scores;   // softmax, sigmoid or identity
  std::string figures;  // JSON text
  std::optional<CanaryRecord> canary;
  std::map<std::string, FileRecord> files;
  int schema_version = 0;
  std::string sha256;  // of the raw bytes of manifest.json
};

/// A file's bytes, mapped or read; they live as long as this does.
class Bytes {
 public:
  virtual ~Bytes() = default;
  virtual const uint8_t* data() const noexcept = 0;
  virtual size_t size() const noexcept = 0;
};

/// Images and answers of canary.npz, one array for each output.
struct Canary {
  std::vector<uint8_t> pixels;                // (images, H, W, 3)
  std::vector<std::vector<float>> reference;  // of the float model, (images, …) each
  std::vector<std::vector<float>> answers;    // of the build
};

struct BundleOptions {
  bool verify = true;                     // hash every file; otherwise only presence and sizes
  bool needs_engine = true;               // refuse a portable bundle
  std::optional<std::string> public_key;  // PEM text: a signature by it is required, and every file is hashed
};

class Bundle {
 public:
  /// Opens a folder or an `.edgevit` file, checks manifest, signature, files and settings. Throws Failure with the
  /// codes of docs/bundle.md. Files that the manifest does not list are ignored in a folder, and `unsafe` in a packed
  /// file.
  static Bundle open(const std::string& path, const BundleOptions& options);

  Bundle(Bundle&&) noexcept;
  Bundle& operator=(Bundle&&) noexcept;
  ~Bundle();

  const Manifest& manifest() const noexcept;
  const std::string& path() const noexcept;

  /// A listed file's bytes, mapped. After `open` has verified it, these are the bytes that were hashed.
  std::shared_ptr<const Bytes> map(const std::string& name) const;

  /// The path of a listed file where the bundle is a folder; nothing where it is packed.
  std::optional<std::string> file_path(const std::string& name) const;

  /// The images and answers of canary.npz. Throws Failure, EDGEVIT_DAMAGED: there are none, or others than the manifest
  /// says.
  Canary read_canary() const;

 private:
  struct Parts;
  explicit Bundle(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace edgevit::detail
