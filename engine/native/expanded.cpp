// Expanded attention over bf16 and fp8 latents: long chunks, head by head. Knows no page.
#include <algorithm>
#include <cstring>

#include "attention.h"

namespace dsv {
namespace {

constexpr int kBlockRows = 64;  // queries that meet a block of keys at once
constexpr std::size_t kMostCodes = std::size_t{1} << 24;  // of the keys and values of the heads that are formed at once

// Sixteen latents in a panel of float32, a line for each value; what is past the last is zero.
void latent_panel(const Kernels& kernels, const Layer& layer, CacheFormat format, const std::uint8_t* const* latents,
                  int count, float* rows, float* panel) {
  const int width = layer.rank + layer.rope;
  widen_latents(kernels, layer, format, latents, count, rows);
  for (int lane = 0; lane < 16; ++lane)
    for (int d = 0; d < width; ++d) panel[16 * d + lane] = lane < count ? rows[width * lane + d] : 0.0f;
}

}  // namespace

void attend_expanded(const Engine& engine, const Layer& layer, CacheFormat format, const Segment& segment,
                     const Latents& keys, const float* q, float* out) {
  static thread_local Scratch<float> floats_memory, scales_memory;
  static thread_local Scratch<std::int16_t> codes_memory;
  const AttentionKernels& kernels = engine.kernels.attention;
  const int num_keys = static_cast<int>(keys.size()), num_blocks = (num_keys + kBlockKeys - 1) / kBlockKeys;
  const int nope = layer.nope, rope = layer.rope, rank = layer.rank, v = layer.v, heads = layer.heads;
  const std::size_t depth = static_cast<std::size_t>(nope + rope), width = static_cast<std::size_t>(rank + rope);
  const Parts parts{nope, rope};
  const std::size_t block_codes = KeyBlock::code_values(parts), block_words = block_codes + KeyBlock::pair_values(v);
  const int group = std::clamp(static_cast<int>(kMostCodes / (block_words * num_blocks)), 1, heads);

  // the latents as float32: rows for the values' product, panels for the keys'
  const int num_panels = (num_keys + 15) / 16;
  float* rows = floats_memory.take(2 * static_cast<std::size_t>(num_panels) * 16 * width + static_cast<std::size_t>(group) * nope * rank);
  float* panels = rows + static_cast<std::size_t>(num_panels) * 16 * width;
  float* key_ups = panels + static_cast<std::size_t>(num_panels) * 16 * width;
  engine.pool.run(num_panels, [&](int panel, int) {
    const std::size_t at = static_cast<std::size_t>(panel) * 16 * width;
    latent_panel(engine.kernels, layer, format, keys.data() + 16 * panel, std::min(16, num_keys - 16 * panel), rows + at,
                 panels + at);
  });

  std::int16_t* codes = codes_memory.take(block_words * num_blocks * group);
  float* scales = scales_memory.take(KeyBlock::scale_values * num_blocks * group);
  std::vector<KeyBlock> blocks(static_cast<std::size_t>(num_blocks) * group);
  for (int first = 0; first < heads; first += group) {
    const int count = std::min(group, heads - first);
    engine.pool.run(count, [&](int unit, int) {
      layer.kv_b.key_rows(engine.kernels, first + unit, key_ups + static_cast<std::size_t>(unit) * nope * rank);
    });
    engine.pool.run(count * num_blocks, [&](int unit, int) {
      static thread_local Scratch<float> memory;
      const int head = unit / num_blocks, key = unit % num_blocks * kBlockKeys, size = std::min(kBlockKeys, num_keys - key);
      float* head_keys = memory.take(kBlockKeys * (depth + v));
      float* head_values = head_keys + kBlockKeys * depth;
      const float* panel = panels + static_cast<std::size_t>(key) * width;
      const FloatPanels latents{panel, (size + 15) / 16 * 16, rank, 16 * width};
      const auto up_rows = row_pointers(key_ups + static_cast<std::size_t>(head) * nope * rank, rank, nope);
      engine.kernels.matmul_float(up_rows.data(), nope, latents, 0, latents.rows / 16,
                                  row_pointers(head_keys, kBlockKeys, nope).data(), false);
      for (int p = 0; p < latents.rows / 16; ++p)
        for (int d = 0; d < rope; ++d)
          std::memcpy(head_keys + kBlockKeys * (nope + d) + 16 * p, panel + 16 * width * p + 16 * (rank + d), 16 * sizeof(float));
      const Panels value_up = layer.kv_b.value_up(first + head);
      matmul(engine, row_pointers(rows + static_cast<std::size_t>(key) * width, width, size).data(), size, value_up, 0,
                            value_up.num_panels(), row_pointers(head_values, v, size).data(), false);
      KeyBlock& block = blocks[unit];
      block.parts = parts;
      block.values = v;
      block.codes = codes + block_words * unit;
      block.pairs = block.codes + block_codes;
      block.scales = scales + KeyBlock::scale_values * unit;
      kernels.load_head(head_keys, head_values, v, size, block);
    });
    const int row_blocks = (segment.length + kBlockRows - 1) / kBlockRows;
    engine.pool.run(count * row_blocks, [&](int unit, int) {  // the last rows, which see most, first
      static thread_local Scratch<std::int16_t> codes_of_rows;
      static thread_local Scratch<float> memory;
      const int head = unit % count, row = (row_blocks - 1 - unit / count) * kBlockRows;
      const int size = std::min(kBlockRows, segment.length - row);
      const std::size_t stride = static_cast<std::size_t>(parts.stride()), padded = static_cast<std::size_t>(v + 15) / 16 * 16;
      std::int16_t* q_codes = codes_of_rows.take(kBlockRows * stride);
      float* mixed = memory.take(kBlockRows * (padded + 4));
      float* tops = mixed + kBlockRows * padded;
      float* totals = tops + kBlockRows;
      float* q_scales = totals + kBlockRows;
      for (int i = 0; i < size; ++i)
        kernels.quantize_query(q + (static_cast<std::size_t>(segment.row + row + i) * heads + first + head) * depth, parts, true,
                               layer.softmax_scale, q_codes + stride * i, q_scales + 2 * i);
      std::fill_n(tops, size, -1e30f);
      std::fill_n(totals, size, 0.0f);
      std::fill_n(mixed, padded * size, 0.0f);
      OnlineSoftmax state{tops, totals, mixed, padded};
      const Queries queries{size, q_codes, q_scales};
      int visible[kBlockRows];
      const int seen = segment.start + row + size;
      for (int block = 0; block * kBlockKeys < seen; ++block) {
        for (int i = 0; i < size; ++i) visible[i] = segment.start + row + i + 1 - block * kBlockKeys;
        kernels.attend_head(queries, blocks[static_cast<std::size_t>(head) * num_blocks + block], visible, state);
      }
      for (int i = 0; i < size; ++i) {
        const float* part = mixed + padded * i;
        kernels.merge(&part, tops + i, totals + i, 1, v,
                      out + (static_cast<std::size_t>(segment.row + row + i) * heads + first + head) * v);
      }
    });
  }
}

}  // namespace dsv
