// Failure: the one exception of the library's inside. The C interface turns it into a status, a sentence and a hint.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "edgevit/edgevit.h"

namespace edgevit::detail {

/// What happened in one sentence, and what to do about it in another; as EdgevitError in Python.
class Failure : public std::runtime_error {
 public:
  Failure(edgevit_status code, const std::string& message, std::string hint)
      : std::runtime_error(message), code_(code), hint_(std::move(hint)) {}

  edgevit_status code() const noexcept { return code_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  edgevit_status code_;
  std::string hint_;
};

}  // namespace edgevit::detail
