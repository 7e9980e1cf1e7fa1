// Where a bundle's files lie: below a folder, or in one packed file. What is checked is what is read: both go by one
// descriptor, which is opened without following a link.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bundle/bundle.hpp"

namespace edgevit::detail {

constexpr size_t kMostFiles = 64;
constexpr uint64_t kMostManifestBytes = uint64_t{4} << 20;
constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kSignatureFile = "signature.json";
constexpr const char* kCanaryFile = "canary.npz";

/// An open file, closed with the last that holds it.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const noexcept { return number_; }

 private:
  int number_;
};

/// A file, or a part of a packed one.
class FilePart {
 public:
  FilePart(std::shared_ptr<const Descriptor> file, uint64_t offset, uint64_t size)
      : file_(std::move(file)), offset_(offset), size_(size) {}

  uint64_t size() const noexcept { return size_; }
  /// Throws Failure, EDGEVIT_DAMAGED: it has become shorter, or the device fails.
  void read(uint64_t at, uint8_t* out, size_t count) const;
  /// All of it, of at most `most` bytes.
  std::string read_text(uint64_t most) const;
  std::string hash() const;
  /// Throws Failure, EDGEVIT_ERROR: the system refuses.
  std::shared_ptr<const Bytes> map() const;

 private:
  template <typename Take>
  void read_blocks(Take take) const;

  std::shared_ptr<const Descriptor> file_;
  uint64_t offset_;
  uint64_t size_;
};

/// A file that was looked for.
struct Found {
  enum class State { here, missing, irregular, unreadable };

  State state = State::missing;
  std::optional<FilePart> part;
  std::string reason;  // the system's, of one that is unreadable
};

class Source {
 public:
  virtual ~Source() = default;
  virtual Found find(const std::string& name) const = 0;
  /// Whether anything of this name is there, of whatever kind.
  virtual bool has(const std::string& name) const = 0;
  /// Of a packed file all names, sorted; nothing of a folder, into which a system may put files of its own.
  virtual std::vector<std::string> list_names() const = 0;
  virtual bool packed() const noexcept = 0;
};

/// A name's parts; none at all where it is no plain relative path below a folder on every system, written in one way.
std::vector<std::string> split_name(const std::string& name);

/// Opens a folder or a packed file. Throws Failure: EDGEVIT_NOT_A_BUNDLE, EDGEVIT_UNSAFE or EDGEVIT_DAMAGED.
std::unique_ptr<Source> open_source(const std::string& path);

/// The second half for a packed file.
std::unique_ptr<Source> open_packed(const std::string& path, std::shared_ptr<const Descriptor> file, uint64_t size);

}  // namespace edgevit::detail
