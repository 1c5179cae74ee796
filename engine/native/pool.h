// Threads that share the units of one job after another. Knows no arithmetic.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace dsv {

// `run(n, f)` calls f(unit, worker) once for each unit in [0, n), on the caller (worker 0) and on the pool's threads.
//
// Units are taken one by one from a shared counter, and a thread takes part in a job only if it arrives while units are
// left: a thread that has lost its core delays nobody but for the unit that it holds. Idle threads spin for some tens of
// microseconds, which is how far apart the jobs of one step lie, then sleep. One caller at a time.
class Pool {
 public:
  explicit Pool(int num_threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  template <class F>
  void run(int num_units, F&& f) {
    using Body = std::remove_reference_t<F>;
    start(num_units, [](void* body, int unit, int worker) { (*static_cast<Body*>(body))(unit, worker); },
          const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using Function = void (*)(void*, int, int);

  void start(int num_units, Function function, void* body);
  void work(int worker);
  void take_units(int worker);
  bool enter(std::uint64_t generation);

  // the job; written by the caller while the gate is shut
  Function function_ = nullptr;
  void* body_ = nullptr;
  int num_units_ = 0;
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<std::uint64_t> gate_{0};  // generation << 32 | open << 31 | threads inside
  alignas(64) std::atomic<std::uint32_t> wake_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> closing_{false};
  std::vector<std::thread> threads_;
};

}  // namespace dsv
