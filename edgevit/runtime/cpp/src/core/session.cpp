#include "core/session.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace edgevit::detail {

/// The engine library is asked for no more at a time than it computes side by side.
class Session::Turn {
 public:
  explicit Turn(Session& session) : session_(session) {
    std::unique_lock<std::mutex> lock(session_.mutex_);
    session_.ended_.wait(lock, [&] { return session_.computing_ < session_.executor_->streams(); });
    ++session_.computing_;
  }
  ~Turn() {
    {
      const std::lock_guard<std::mutex> lock(session_.mutex_);
      --session_.computing_;
    }
    session_.ended_.notify_one();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Session& session_;
};

Session::Session(const EngineRecord& engine, std::unique_ptr<Executor> executor)
    : executor_(std::move(executor)),
      least_(engine.batch[0]),
      largest_(engine.batch[2]),
      image_bytes_(count_values(engine.inputs.front())) {
  for (const TensorSpec& spec : engine.outputs) values_.push_back(count_values(spec));
  const auto most = static_cast<size_t>(executor_->most_requests());
  slots_.reserve(most);
  free_.reserve(most);
}

Session::~Session() = default;

Slot* Session::take() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    freed_.wait(lock, [&] { return !free_.empty() || made_ < executor_->most_requests(); });
    if (!free_.empty()) {
      Slot* slot = free_.back();
      free_.pop_back();
      return slot;
    }
    ++made_;
  }
  try {
    auto slot = std::make_unique<Slot>();
    slot->request = executor_->make_request();
    const std::lock_guard<std::mutex> lock(mutex_);
    slots_.push_back(std::move(slot));
    return slots_.back().get();
  } catch (...) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      --made_;
    }
    freed_.notify_one();
    throw;
  }
}

void Session::give_back(Slot* slot) noexcept {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(slot);  // has room for all of them
  }
  freed_.notify_one();
}

void Session::run(Slot& slot, int images) {
  for (int i = images; i < least_; ++i) {
    uint8_t* input = slot.request->input();
    std::memcpy(input + static_cast<size_t>(i) * image_bytes_, input + static_cast<size_t>(images - 1) * image_bytes_,
                image_bytes_);
  }
  const Turn turn(*this);
  slot.request->run(std::max(images, least_));
}

void Session::run(Slot& slot, const uint8_t* pixels, int images, float* const* outputs) {
  for (int done = 0; done < images; done += largest_) {
    const int part = std::min(largest_, images - done);
    std::memcpy(slot.request->input(), pixels + static_cast<size_t>(done) * image_bytes_,
                static_cast<size_t>(part) * image_bytes_);
    run(slot, part);
    for (size_t i = 0; i < values_.size(); ++i) {
      std::memcpy(outputs[i] + static_cast<size_t>(done) * values_[i], slot.request->output(i),
                  static_cast<size_t>(part) * values_[i] * sizeof(float));
    }
  }
}

void Session::run_in_place(Slot& slot, const edgevit_buffer& pixels, int images, const edgevit_buffer* outputs,
                           size_t count) {
  if (images < least_ || images > largest_) {
    throw Failure(EDGEVIT_ARGUMENT,
                  "in a device's memory the engine takes " + std::to_string(least_) + " to " + std::to_string(largest_) +
                      " images a call, not " + std::to_string(images),
                  "split the batch, or give it in host memory");
  }
  const Turn turn(*this);
  slot.request->run_in_place(pixels, images, outputs, count);
}

size_t count_values(const TensorSpec& spec) {
  size_t values = 1;
  for (size_t i = 1; i < spec.shape.size(); ++i) {
    if (spec.shape[i] <= 0) {
      throw Failure(EDGEVIT_MANIFEST, spec.name + " has a side that may vary besides the batch", "build the bundle again");
    }
    if (__builtin_mul_overflow(values, static_cast<size_t>(spec.shape[i]), &values) || values > (size_t{1} << 40)) {
      throw Failure(EDGEVIT_MANIFEST, spec.name + " has more numbers than memory holds", "build the bundle again");
    }
  }
  return values;
}

}  // namespace edgevit::detail
