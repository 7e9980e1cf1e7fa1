// A few frames between a camera and an engine. Where the engine is slower, the oldest frame is dropped: the camera
// never waits, and what is answered is never older than the queue is long.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

template <class Frame>
class FrameQueue {
 public:
  explicit FrameQueue(std::size_t most) : frames_(most) {}

  /// Adds a frame and gives back another one's memory in its place; never waits for the reader.
  void push(Frame& frame) {
    const std::lock_guard<std::mutex> lock(mutex_);  // held by the reader for no longer than a swap takes
    if (count_ == frames_.size()) {
      first_ = (first_ + 1) % frames_.size();
      --count_;
      ++dropped_;
    }
    std::swap(frames_[(first_ + count_) % frames_.size()], frame);
    ++count_;
    filled_.notify_one();
  }

  /// Waits for the oldest frame and swaps it with `frame`. False once the queue is closed and empty.
  bool pop(Frame& frame) {
    std::unique_lock<std::mutex> lock(mutex_);
    filled_.wait(lock, [this] { return count_ > 0 || closed_; });
    if (count_ == 0) return false;
    std::swap(frames_[first_], frame);
    first_ = (first_ + 1) % frames_.size();
    --count_;
    return true;
  }

  /// No more frames will come.
  void close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    filled_.notify_all();
  }

  long dropped() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return dropped_;
  }

 private:
  std::vector<Frame> frames_;
  std::size_t first_ = 0, count_ = 0;
  bool closed_ = false;
  long dropped_ = 0;
  std::mutex mutex_;
  std::condition_variable filled_;
};
