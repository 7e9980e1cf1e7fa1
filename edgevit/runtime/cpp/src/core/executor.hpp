// Executor: what an engine library's own part of a session does; the same to its caller for every library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "bundle/bundle.hpp"
#include "edgevit/edgevit.h"
#include "failure.hpp"

namespace edgevit::detail {

/// One caller's part: an inference request with host memory for the largest batch. One thread at a time uses it.
class Request {
 public:
  virtual ~Request() = default;

  /// (largest batch, H, W, 3) bytes to be filled before run().
  virtual uint8_t* input() noexcept = 0;

  /// After run(): (images, …) float32 of an output. It lives until the next run.
  virtual const float* output(size_t index) const noexcept = 0;

  /// Computes the first images of input(), a number within the engine's range. Throws Failure, EDGEVIT_DEVICE.
  virtual void run(int images) = 0;

  /// The same with the caller's own memory, of which some is a device's. Throws Failure, EDGEVIT_ARGUMENT: the library
  /// has no such memory.
  virtual void run_in_place(const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs, size_t count) {
    static_cast<void>(pixels), static_cast<void>(images), static_cast<void>(outputs), static_cast<void>(count);
    throw Failure(EDGEVIT_ARGUMENT, "this engine library takes pixels and gives answers in host memory only",
                  "give buffers of EDGEVIT_HOST");
  }
};

class Executor {
 public:
  virtual ~Executor() = default;

  virtual std::unique_ptr<Request> make_request() = 0;

  /// As used, with what was chosen on this device.
  virtual const Settings& settings() const noexcept = 0;

  /// Calls that are computed side by side.
  virtual int streams() const noexcept = 0;

  /// Requests that may exist; further callers wait.
  virtual int most_requests() const noexcept = 0;
};

}  // namespace edgevit::detail
