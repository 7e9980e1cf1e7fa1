// The text of manifest.json, as it is and with the digest that fits: otherwise nothing behind that would be reached.
#include <cstdlib>

#include "bundle/digest.hpp"
#include "bundle/json_value.hpp"
#include "bundle/manifest_reader.hpp"
#include "failure.hpp"

using namespace edgevit::detail;

namespace {

void parse(const std::string& text) {
  try {
    parse_manifest(text, "bundle");
  } catch (const Failure&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  parse(text);
  try {
    const Value document = parse_json(text, kMostLevels);
    const std::string plain = dump_json(document);
    if (dump_json(parse_json(plain, kMostLevels)) != plain) std::abort();
    if (document.type() != Value::Type::table) return 0;
    std::string sealed = dump_json(document, "manifest_sha256");
    const std::string digest = hash_text(sealed);
    sealed.pop_back();
    parse(sealed + (sealed.size() > 1 ? "," : "") + "\"manifest_sha256\":\"" + digest + "\"}");
  } catch (const JsonError&) {
  }
  return 0;
}
