#include "core/rebuild.hpp"

namespace edgevit::detail {
namespace {

/// A word of a command line as a shell takes it.
std::string quote(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                             "0123456789@%+=:,./-_") == std::string::npos;
  if (plain) return word;
  std::string quoted = "'";
  for (const char letter : word) quoted += letter == '\'' ? std::string("'\"'\"'") : std::string(1, letter);
  return quoted + "'";
}

}  // namespace

std::string suggest_rebuild(const Bundle& bundle) {
  const Manifest& manifest = bundle.manifest();
  return "build it again for this device: edgevit build MODEL --target " + quote(manifest.target_name) + " --precision " +
         quote(manifest.precision) + " --out " + quote(bundle.path());
}

}  // namespace edgevit::detail
