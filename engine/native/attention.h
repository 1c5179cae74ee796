// What the two forms of attention share: keys as addresses, rows of queries, memory that a thread keeps. Knows no page.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "layer.h"

namespace dsv {

using Latents = std::vector<const std::uint8_t*>;  // of one request, one address a token

struct QueryRow {  // one query of all heads on the latents themselves
  const Latents* keys = nullptr;
  int num_keys = 0;
  const float* q = nullptr;  // (heads, nope + rope), rotated
  float* out = nullptr;      // (heads, v)
};

// Memory that grows and is never cleared: what a step needs of it, the next step needs again.
template <class T>
class Scratch {
 public:
  T* take(std::size_t size) {
    if (size > size_) {
      values_ = std::make_unique_for_overwrite<T[]>(size);
      size_ = size;
    }
    return values_.get();
  }

 private:
  std::unique_ptr<T[]> values_;
  std::size_t size_ = 0;
};

// A block of keys in memory of this thread.
class BlockMemory {
 public:
  KeyBlock block(Parts parts, int values) {
    KeyBlock block{parts, values};
    block.codes = words_.take(KeyBlock::code_values(parts) + KeyBlock::pair_values(values));
    block.pairs = block.codes + KeyBlock::code_values(parts);
    block.scales = scales_.take(KeyBlock::scale_values);
    return block;
  }

 private:
  Scratch<std::int16_t> words_;
  Scratch<float> scales_;
};

// `count` latents as float32, (count, rank + rope).
void widen_latents(const Kernels& kernels, const Layer& layer, CacheFormat format, const std::uint8_t* const* latents,
                   int count, float* out);

// Absorbed: s = scale (q_nope W_UK, q_pe) . latent, out = W_UV (sum softmax(s) c_kv).
void attend_absorbed(const Engine& engine, const Layer& layer, CacheFormat format, const std::vector<QueryRow>& rows);
// The same on float32 pages, in float32.
void attend_absorbed_float(const Engine& engine, const Layer& layer, const std::vector<QueryRow>& rows);

// Expanded: k = (W_UK c_kv, k_pe) and v = W_UV c_kv of every head, then plain causal attention.
void attend_expanded(const Engine& engine, const Layer& layer, CacheFormat format, const Segment& segment,
                     const Latents& keys, const float* q, float* out);
void attend_expanded_float(const Engine& engine, const Layer& layer, const Segment& segment, const Latents& keys,
                           const float* q, float* out);

}  // namespace dsv
