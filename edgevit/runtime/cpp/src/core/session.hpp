// Session: an opened engine that several threads use, each with a request and memory of its own.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "bundle/bundle.hpp"
#include "core/executor.hpp"
#include "pixels/preprocessor.hpp"

namespace edgevit::detail {

/// What one call works with; taken from the session's pool and given back to it.
struct Slot {
  std::unique_ptr<Request> request;
  PixelWorkspace pixels;
  std::vector<int32_t> order;
};

class Session {
 public:
  Session(const EngineRecord& engine, std::unique_ptr<Executor> executor);
  ~Session();

  /// A slot of the calling thread's for as long as this lives; waits where all are in use.
  class Lease {
   public:
    explicit Lease(Session& session) : session_(session), slot_(session.take()) {}
    ~Lease() { session_.give_back(slot_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Slot& operator*() noexcept { return *slot_; }
    Slot* operator->() noexcept { return slot_; }

   private:
    Session& session_;
    Slot* slot_;
  };

  /// Computes the first images of the request's input, from 1 to the largest batch; fewer than the least are filled up
  /// with copies of the last one. Throws Failure, EDGEVIT_DEVICE.
  void run(Slot& slot, int images);

  /// Any number of prepared images, (images, H, W, 3) bytes in host memory, to all outputs, (images, …) float32 each.
  void run(Slot& slot, const uint8_t* pixels, int images, float* const* outputs);

  /// Within the engine's range of batches, in memory of which some is a device's.
  void run_in_place(Slot& slot, const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs, size_t count);

  const Executor& executor() const noexcept { return *executor_; }
  size_t image_bytes() const noexcept { return image_bytes_; }
  /// Numbers of one image, by output.
  const std::vector<size_t>& values() const noexcept { return values_; }
  int largest_batch() const noexcept { return largest_; }

 private:
  class Turn;
  Slot* take();
  void give_back(Slot* slot) noexcept;

  std::unique_ptr<Executor> executor_;
  int least_, largest_;
  size_t image_bytes_;
  std::vector<size_t> values_;
  std::mutex mutex_;
  std::condition_variable freed_, ended_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
  int made_ = 0, computing_ = 0;
};

/// Numbers of one image of a tensor. Throws Failure, EDGEVIT_MANIFEST: a side but the batch may vary.
size_t count_values(const TensorSpec& spec);

}  // namespace edgevit::detail
