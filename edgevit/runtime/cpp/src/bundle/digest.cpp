#include "bundle/digest.hpp"

#include <array>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "failure.hpp"

namespace edgevit::detail {

namespace {

std::string write_hex(const uint8_t* data, size_t size) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    text += kDigits[data[i] >> 4];
    text += kDigits[data[i] & 15];
  }
  return text;
}

void require(bool worked) {
  if (!worked) throw Failure(EDGEVIT_ERROR, "OpenSSL cannot compute a digest", "check the installation of libcrypto");
}

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? value >> 1 ^ 0xedb88320U : value >> 1;
    table[i] = value;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

/// No key has a password here; without this, OpenSSL would ask the terminal for one.
int refuse_password(char*, int, int, void*) { return -1; }

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::add(const void* data, size_t size) { require(EVP_DigestUpdate(state_->context, data, size) == 1); }

std::string Sha256::finish() {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  require(EVP_DigestFinal_ex(state_->context, digest, &size) == 1);
  return write_hex(digest, size);
}

std::string hash_text(std::string_view text) {
  Sha256 digest;
  digest.add(text.data(), text.size());
  return digest.finish();
}

uint32_t add_crc32(uint32_t before, const uint8_t* data, size_t size) noexcept {
  uint32_t value = ~before;
  for (size_t i = 0; i < size; ++i) value = kCrcTable[(value ^ data[i]) & 255] ^ value >> 8;
  return ~value;
}

struct PublicKey::State {
  EVP_PKEY* key = nullptr;
  ~State() { EVP_PKEY_free(key); }
};

PublicKey::PublicKey(const std::string& pem) : state_(std::make_unique<State>()) {
  BIO* text = pem.size() < 65536 ? BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())) : nullptr;
  if (text != nullptr) state_->key = PEM_read_bio_PUBKEY(text, nullptr, refuse_password, nullptr);
  BIO_free(text);
  if (state_->key == nullptr || EVP_PKEY_get_id(state_->key) != EVP_PKEY_ED25519) {
    throw Failure(
        EDGEVIT_ARGUMENT, "the public key is no PEM text with a public key of Ed25519",
        "give what `openssl pkey -in key.pem -pubout` writes of a key by `openssl genpkey -algorithm ed25519`");
  }
}

PublicKey::~PublicKey() = default;

std::string PublicKey::raw() const {
  uint8_t bytes[32];
  size_t size = sizeof bytes;
  require(EVP_PKEY_get_raw_public_key(state_->key, bytes, &size) == 1);
  return write_hex(bytes, size);
}

bool PublicKey::verifies(const std::vector<uint8_t>& signature, std::string_view message) const {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool fits = context != nullptr && EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, state_->key) == 1 &&
                    EVP_DigestVerify(context, signature.data(), signature.size(),
                                     reinterpret_cast<const uint8_t*>(message.data()), message.size()) == 1;
  EVP_MD_CTX_free(context);
  return fits;
}

}  // namespace edgevit::detail
