// Absorbed attention over bf16 and fp8 latents: decode steps, and short chunks row by row. Knows no page.
#include <algorithm>
#include <cstring>

#include "attention.h"

namespace dsv {
namespace {

// A row's keys in at most kMostSplits parts, each whole blocks. The parts depend on nothing but the number of keys: so
// neither the other rows nor the number of threads change a row's bits.
int keys_of_split(int num_keys) {
  constexpr int whole = kBlockKeys * kMostSplits;
  return kBlockKeys * ((num_keys + whole - 1) / whole);
}

constexpr int kMostHeads = 32;  // that meet a block at once: their codes stay in cache beside it
constexpr std::size_t kMostSums = std::size_t{1} << 23;  // floats of unmerged sums

struct Unit {
  int row, split, head;
};

void attend_rows(const Engine& engine, const Layer& layer, CacheFormat format, const QueryRow* rows, int num_rows) {
  static thread_local Scratch<std::int16_t> codes_memory;
  static thread_local Scratch<float> scales_memory, sums_memory;
  const AttentionKernels& kernels = engine.kernels.attention;
  const Parts parts{layer.rank, layer.rope};
  const int heads = layer.heads, groups = (heads + kMostHeads - 1) / kMostHeads, per_group = (heads + groups - 1) / groups;
  const std::size_t stride = static_cast<std::size_t>(parts.stride()), width = static_cast<std::size_t>(layer.rank + 15) / 16 * 16;
  const std::size_t num_queries = static_cast<std::size_t>(num_rows) * heads;

  std::int16_t* codes = codes_memory.take(num_queries * stride);
  float* scales = scales_memory.take(num_queries * 2);
  engine.pool.run(num_rows * heads, [&](int unit, int) {
    static thread_local Scratch<float> memory;
    float* q = memory.take(static_cast<std::size_t>(layer.rank + layer.rope));
    const int head = unit % heads;
    const float* from = rows[unit / heads].q + static_cast<std::size_t>(head) * (layer.nope + layer.rope);
    layer.kv_b.absorb(engine, head, from, q);
    std::memcpy(q + layer.rank, from + layer.nope, sizeof(float) * static_cast<std::size_t>(layer.rope));
    kernels.quantize_query(q, parts, false, layer.softmax_scale, codes + stride * unit, scales + 2 * static_cast<std::size_t>(unit));
  });

  // sums of (row, split, head): `width` values, their softmax's total and largest score in arrays of their own
  std::vector<Unit> units;
  std::vector<int> first_split(static_cast<std::size_t>(num_rows) + 1, 0);
  for (int row = 0; row < num_rows; ++row) {
    const int size = keys_of_split(rows[row].num_keys), count = (rows[row].num_keys + size - 1) / size;
    first_split[row + 1] = first_split[row] + count;
    for (int split = 0; split < count; ++split)
      for (int head = 0; head < heads; head += per_group) units.push_back({row, split, head});
  }
  const std::size_t num_sums = static_cast<std::size_t>(first_split[num_rows]) * heads;
  float* sums = sums_memory.take(num_sums * (width + 2));
  float* tops = sums + num_sums * width;
  float* totals = tops + num_sums;
  engine.pool.run(static_cast<int>(units.size()), [&](int index, int) {
    static thread_local BlockMemory memory;
    KeyBlock block = memory.block(parts, layer.rank);
    const Unit& unit = units[index];
    const QueryRow& row = rows[unit.row];
    const int count = std::min(per_group, heads - unit.head), size = keys_of_split(row.num_keys);
    const std::size_t query = static_cast<std::size_t>(unit.row) * heads + unit.head;
    const std::size_t at = static_cast<std::size_t>(first_split[unit.row] + unit.split) * heads + unit.head;
    OnlineSoftmax state{tops + at, totals + at, sums + at * width, width};
    std::fill_n(state.top, count, -1e30f);
    std::fill_n(state.total, count, 0.0f);
    std::fill_n(state.mixed, width * count, 0.0f);
    const Queries queries{count, codes + query * stride, scales + query * 2};
    const int last = std::min(row.num_keys, size * (unit.split + 1));
    for (int key = size * unit.split; key < last; key += kBlockKeys) {
      const std::uint8_t* const* latents = row.keys->data() + key;
      if (format == CacheFormat::bf16)
        kernels.load_bf16(latents, std::min(kBlockKeys, last - key), block);
      else
        kernels.load_fp8(latents, std::min(kBlockKeys, last - key), block);
      kernels.attend_latents(queries, block, nullptr, state);
    }
  });

  engine.pool.run(num_rows * heads, [&](int unit, int) {
    static thread_local Scratch<float> memory;
    float* mixed = memory.take(width);
    const int row = unit / heads, head = unit % heads, count = first_split[row + 1] - first_split[row];
    const float* parts_of_row[kMostSplits];
    float row_tops[kMostSplits], row_totals[kMostSplits];
    for (int split = 0; split < count; ++split) {
      const std::size_t at = static_cast<std::size_t>(first_split[row] + split) * heads + head;
      parts_of_row[split] = sums + at * width;
      row_tops[split] = tops[at];
      row_totals[split] = totals[at];
    }
    kernels.merge(parts_of_row, row_tops, row_totals, count, layer.rank, mixed);
    const Panels value_up = layer.kv_b.value_up(head);
    float* out = rows[row].out + static_cast<std::size_t>(head) * layer.v;
    matmul(engine, &mixed, 1, value_up, 0, value_up.num_panels(), &out, false);
  });
}

}  // namespace

void attend_absorbed(const Engine& engine, const Layer& layer, CacheFormat format, const std::vector<QueryRow>& rows) {
  const std::size_t of_row = static_cast<std::size_t>(kMostSplits) * layer.heads * layer.rank;
  const int most = std::max(1, static_cast<int>(kMostSums / of_row)), num_rows = static_cast<int>(rows.size());
  for (int first = 0; first < num_rows; first += most)
    attend_rows(engine, layer, format, rows.data() + first, std::min(most, num_rows - first));
}

}  // namespace dsv
