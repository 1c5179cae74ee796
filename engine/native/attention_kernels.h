// The kernels of attention as a table of functions, and what they work on. Knows no pages, no layers and no threads.
//
// Attention runs on integers: queries, keys and values are codes of sixteen bits with a scale of their own each, whose
// products are summed exactly in 32 bits. That is twice as many products an instruction as float32 has, with 12 bits and a
// sign for a part's largest value, where bf16, in which the cache holds them, has eight.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dsv {

constexpr int kBlockKeys = 64;    // keys that are made codes and met by every query at once
constexpr int kKeyCode = 4096;    // largest size of a key's or value's code: a power of two
constexpr int kWeightCode = 8191;  // largest of a weight of the sum: 64 * 8191 * 4096 < 2^31
constexpr int kMostSplits = 16;    // of one row's keys, over which threads share

// A query and a key are two parts: c_kv and k_pe where keys are the latents, the parts without and with rotation where they
// are formed per head. Each has codes of its own scale, padded with zeros to a multiple of 32.
struct Parts {
  int first = 0, second = 0;  // values
  static constexpr int padded(int size) { return (size + 31) / 32 * 32; }
  int stride() const { return padded(first) + padded(second); }
};

// Sixty-four keys and their values. What is past `count` is zero.
//
// Latents keep each key's codes together, and a score is summed over the lanes of a register. Keys formed per head, which a
// product gives with the keys side by side, keep them so: a lane is a key.
struct KeyBlock {
  Parts parts;
  int values = 0;                  // of each key
  std::int16_t* codes = nullptr;   // (64, parts.stride()); of heads: (parts.stride() / 2, 64 keys' two values)
  std::int16_t* pairs = nullptr;   // (values / 16, 32, 16 values of two keys), in an order of the instruction set's own
  float* scales = nullptr;         // (4, 64): of the first part; second to first; of the value; one by that
  int count = 0;
  bool finite = true;  // false: a key holds what is no number

  static std::size_t code_values(Parts parts) { return static_cast<std::size_t>(kBlockKeys) * parts.stride(); }
  static std::size_t pair_values(int values) { return static_cast<std::size_t>(kBlockKeys) * ((values + 15) / 16 * 16); }
  static constexpr std::size_t scale_values = 4 * kBlockKeys;
};

struct Queries {
  int count = 0;
  const std::int16_t* codes = nullptr;  // (count, parts.stride())
  const float* scales = nullptr;        // (count, 2): of the first part, with the softmax's scale; second to first
};

// Softmax over the blocks met so far, query by query: sum exp(s - top) value, and sum exp(s - top).
struct OnlineSoftmax {
  float* top = nullptr;    // (count)
  float* total = nullptr;  // (count); NaN where a query or a key is no number
  float* mixed = nullptr;  // (count, stride), stride a multiple of 16
  std::size_t stride = 0;
};

struct AttentionKernels {
  // codes and the two scales of one query of latents, or of heads
  void (*quantize_query)(const float* q, Parts parts, bool heads, float scale, std::int16_t* codes, float* scales);
  // `count` latents, one pointer a token, as keys, and their first part as values
  void (*load_bf16)(const std::uint8_t* const* latents, int count, KeyBlock& block);
  void (*load_fp8)(const std::uint8_t* const* latents, int count, KeyBlock& block);
  // keys (parts.first + parts.second, 64) and values (count, value_stride) of one head in float32
  void (*load_head)(const float* keys, const float* values, std::size_t value_stride, int count, KeyBlock& block);
  // Every query meets the first visible[i] keys of the block (visible null: all of them).
  void (*attend_latents)(const Queries& queries, const KeyBlock& block, const int* visible, OnlineSoftmax& state);
  void (*attend_head)(const Queries& queries, const KeyBlock& block, const int* visible, OnlineSoftmax& state);
  // out = the quotient of `mixed` and `total` over `count` softmaxes of one query over other keys
  void (*merge)(const float* const* mixed, const float* tops, const float* totals, int count, int size, float* out);

  // out[h][l] = scale * q[h] . key(l) for keys [first, last) and every head; keys: one pointer a token, float32
  void (*scores)(const float* const* q, int num_heads, int size, const float* const* keys, int first, int last,
                 float scale, float* const* out);
  // values become exp(value - largest) / their sum
  void (*softmax)(float* values, int size);
  // out[h][d] = sum over l ascending of p[h][l] key(l)[d] for dimensions [first, last) and every head
  void (*mix)(const float* const* p, int num_heads, const float* const* keys, int num_keys, int first, int last,
              float* const* out);
  // out[i] = the latent's values as float32
  void (*widen_fp8)(const std::uint8_t* latent, Parts parts, float* out);
};

}  // namespace dsv
