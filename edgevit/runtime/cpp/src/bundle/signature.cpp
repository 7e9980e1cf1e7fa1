#include "bundle/signature.hpp"

#include "bundle/digest.hpp"
#include "bundle/json_value.hpp"
#include "failure.hpp"

namespace edgevit::detail {

namespace {

constexpr const char* kDomain = "edgevit bundle v1\n";
constexpr uint64_t kMostBytes = 4096;
constexpr const char* kAgain = "sign the bundle again, or delete that file";
constexpr const char* kSign =
    "get the bundle from whoever signs it, or open it without asking for a signature where you trust its source";

[[noreturn]] void refuse(const std::string& message, const char* hint) {
  throw Failure(EDGEVIT_SIGNATURE, message, hint);
}

bool is_hex(const Value& value, size_t digits) {
  return value.is_text() && value.text().size() == digits &&
         value.text().find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::vector<uint8_t> read_hex(const std::string& text) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

Value read_signature(const Source& source, const std::string& path, const std::string& where) {
  const Found found = source.find(kSignatureFile);
  switch (found.state) {
    case Found::State::missing: refuse(path + " is not signed, and a signature is asked for", kSign);
    case Found::State::irregular:
      throw Failure(EDGEVIT_UNSAFE, where + " is a link, a folder or a device, not a file", kAgain);
    case Found::State::unreadable: refuse(where + " cannot be read: " + found.reason, kAgain);
    case Found::State::here: break;
  }
  if (found.part->size() > kMostBytes) refuse(where + " has more than 4096 bytes", kAgain);
  try {
    return parse_json(found.part->read_text(kMostBytes), 1);
  } catch (const JsonError& error) {
    refuse(where + " cannot be read: " + error.what(), kAgain);
  }
}

}  // namespace

void check_signature(const Source& source, const std::string& path, const std::string& manifest,
                     const std::string& pem) {
  const PublicKey trusted(pem);
  const std::string where = path + ": " + kSignatureFile;
  const Value document = read_signature(source, path, where);
  const Value* algorithm = document.find("algorithm");
  const Value* key = document.find("public_key");
  const Value* signature = document.find("signature");
  if (document.keys().size() != 3 || algorithm == nullptr || key == nullptr || signature == nullptr) {
    refuse(where + " has other keys than algorithm, public_key and signature", kAgain);
  }
  if (!algorithm->is_text() || algorithm->text() != "ed25519") refuse(where + ": the algorithm is not ed25519", kAgain);
  if (!is_hex(*key, 64)) refuse(where + ": public_key is not 64 hexadecimal digits", kAgain);
  if (!is_hex(*signature, 128)) refuse(where + ": signature is not 128 hexadecimal digits", kAgain);
  if (trusted.verifies(read_hex(signature->text()), kDomain + manifest)) return;
  const std::string own = trusted.raw();
  if (key->text() != own) {
    refuse(path + " is signed with another key: " + key->text().substr(0, 16) + "…, and " + own.substr(0, 16) +
               "… is asked for",
           kSign);
  }
  refuse(path + " was altered after it was signed: its signature does not fit", kSign);
}

}  // namespace edgevit::detail
