// SHA-256, CRC-32 and Ed25519, by OpenSSL but for the checksum.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace edgevit::detail {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(const void* data, size_t size);
  /// In hexadecimal; the last call.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string hash_text(std::string_view text);

/// As zip files have it; `before` goes on with what came before.
uint32_t add_crc32(uint32_t before, const uint8_t* data, size_t size) noexcept;

/// A public key of Ed25519.
class PublicKey {
 public:
  /// From the text of a PEM file. Throws Failure, EDGEVIT_ARGUMENT: it is none, or of another kind.
  explicit PublicKey(const std::string& pem);
  ~PublicKey();
  PublicKey(const PublicKey&) = delete;
  PublicKey& operator=(const PublicKey&) = delete;

  /// Its 32 bytes in hexadecimal.
  std::string raw() const;
  bool verifies(const std::vector<uint8_t>& signature, std::string_view message) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace edgevit::detail
