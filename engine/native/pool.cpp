// The pool's gate: a job is open while its caller is inside; threads enter, take units, leave; the caller shuts it.
#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dsv {
namespace {

constexpr std::uint64_t kOpen = 1ull << 31;
constexpr int kSpins = 4000;  // of a pause each: 40 to 150 us

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Pool::Pool(int num_threads) {
  for (int worker = 1; worker < num_threads; ++worker) threads_.emplace_back([this, worker] { work(worker); });
}

Pool::~Pool() {
  closing_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::start(int num_units, Function function, void* body) {
  if (threads_.empty() || num_units <= 1) {
    for (int unit = 0; unit < num_units; ++unit) function(body, unit, 0);
    return;
  }
  function_ = function;
  body_ = body;
  num_units_ = num_units;
  next_.store(0, std::memory_order_relaxed);
  const std::uint64_t generation = (gate_.load(std::memory_order_relaxed) >> 32) + 1;
  gate_.store(generation << 32 | kOpen, std::memory_order_seq_cst);
  if (asleep_.load(std::memory_order_seq_cst) > 0) {
    wake_.fetch_add(1);
    wake_.notify_all();
  }
  take_units(0);
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spins = 0; gate_.load(std::memory_order_acquire) & (kOpen - 1); ++spins) {
    if (spins < kSpins)
      pause();
    else
      std::this_thread::yield();
  }
}

void Pool::take_units(int worker) {
  for (;;) {
    const int unit = next_.fetch_add(1, std::memory_order_relaxed);
    if (unit >= num_units_) return;
    function_(body_, unit, worker);
  }
}

bool Pool::enter(std::uint64_t generation) {
  std::uint64_t gate = gate_.load(std::memory_order_acquire);
  while (gate >> 32 == generation && gate & kOpen)
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
  return false;
}

void Pool::work(int worker) {
  std::uint64_t done = 0;
  for (;;) {
    int spins = 0;
    std::uint64_t gate = gate_.load(std::memory_order_acquire);
    while (!(gate & kOpen) || gate >> 32 == done) {
      if (++spins < kSpins) {
        pause();
      } else {
        const std::uint32_t seen = wake_.load();
        asleep_.fetch_add(1, std::memory_order_seq_cst);
        gate = gate_.load(std::memory_order_seq_cst);
        const bool idle = !(gate & kOpen) || gate >> 32 == done;
        if (idle && !closing_.load()) wake_.wait(seen);
        asleep_.fetch_sub(1);
        if (closing_.load()) return;
        spins = 0;
      }
      gate = gate_.load(std::memory_order_acquire);
    }
    done = gate >> 32;
    if (enter(done)) {
      take_units(worker);
      gate_.fetch_sub(1, std::memory_order_release);
    }
  }
}

}  // namespace dsv
