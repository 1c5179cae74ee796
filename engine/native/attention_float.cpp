// Attention over float32 pages, in float32: both forms. Knows no page.
#include <algorithm>
#include <cstring>
#include <utility>

#include "attention.h"

namespace dsv {
namespace {

const float* const* floats(const Latents& keys) { return reinterpret_cast<const float* const*>(keys.data()); }

// The latents as the kernels' panels of float32, sixteen keys each, shared by all heads; keys past the last are zero.
std::vector<float> latent_panels(const Engine& engine, const Layer& layer, const Latents& keys, float* rows) {
  const int width = layer.rank + layer.rope, num_keys = static_cast<int>(keys.size());
  const int panels = (num_keys + 15) / 16;
  std::vector<float> packed(static_cast<std::size_t>(panels) * 16 * width);
  engine.pool.run(panels, [&](int panel, int) {
    float* to = packed.data() + static_cast<std::size_t>(panel) * 16 * width;
    for (int lane = 0; lane < 16 && 16 * panel + lane < num_keys; ++lane) {
      float* row = rows + static_cast<std::size_t>(16 * panel + lane) * width;
      widen_latents(engine.kernels, layer, CacheFormat::float32, &keys[16 * panel + lane], 1, row);
      for (int d = 0; d < width; ++d) to[16 * d + lane] = row[d];
    }
  });
  return packed;
}

// One head of a long chunk: k = (W_UK c_kv, k_pe) and v = W_UV c_kv in panels, then plain causal attention, a block of
// query rows at a time.
void expanded(const Engine& engine, const Layer& layer, const Segment& segment, const std::vector<float>& latents,
              const std::vector<const float*>& latent_rows, int head, const float* q, std::size_t q_stride, float* out,
              std::size_t out_stride) {
  const Kernels& kernels = engine.kernels;
  const int num_keys = static_cast<int>(latent_rows.size()), panels = (num_keys + 15) / 16;
  const int rank = layer.rank, nope = layer.nope, rope = layer.rope, v = layer.v;
  const int width = rank + rope, depth = nope + rope, v_panels = (v + 15) / 16;
  std::vector<float> key_up(static_cast<std::size_t>(nope) * rank);
  layer.kv_b.key_rows(kernels, head, key_up.data());
  std::vector<float> keys(static_cast<std::size_t>(panels) * 16 * depth);
  const auto key_up_rows = row_pointers(key_up.data(), rank, nope);
  for (int panel = 0; panel < panels; ++panel) {
    const float* from = latents.data() + static_cast<std::size_t>(panel) * 16 * width;
    float* to = keys.data() + static_cast<std::size_t>(panel) * 16 * depth;
    const FloatPanels one{from, 16, rank, static_cast<std::size_t>(16) * width};
    kernels.matmul_float(key_up_rows.data(), nope, one, 0, 1, row_pointers(to, 16, nope).data(), false);
    std::memcpy(to + 16 * nope, from + 16 * rank, sizeof(float) * 16 * static_cast<std::size_t>(rope));
  }
  const std::size_t value_panel = static_cast<std::size_t>(16) * num_keys;
  std::vector<float> values(value_panel * v_panels);
  const Panels value_up = layer.kv_b.value_up(head);
  for (int panel = 0; panel < v_panels; ++panel) {
    Panels one = value_up.from_panel(panel);
    one.rows = 16;  // the padding's zeros too: a panel of values is always sixteen wide
    matmul(engine, latent_rows.data(), num_keys, one, 0, 1,
           row_pointers(values.data() + panel * value_panel, 16, num_keys).data(), false);
  }
  constexpr int block = 60;  // a multiple of every instruction set's rows
  const int padded = panels * 16;
  std::vector<float> p(static_cast<std::size_t>(block) * padded);
  const auto p_rows = row_pointers(p.data(), padded, block);
  for (int first = 0; first < segment.length; first += block) {
    const int count = std::min(block, segment.length - first), seen = segment.start + first + count;
    const float* q_rows[block];
    float* out_rows[block];
    for (int i = 0; i < count; ++i) {
      q_rows[i] = q + static_cast<std::size_t>(first + i) * q_stride;
      out_rows[i] = out + static_cast<std::size_t>(first + i) * out_stride;
    }
    const FloatPanels key_panels{keys.data(), num_keys, depth, static_cast<std::size_t>(16) * depth};
    kernels.matmul_float(q_rows, count, key_panels, 0, (seen + 15) / 16, p_rows.data(), false);
    for (int i = 0; i < count; ++i) {
      const int visible = segment.start + first + i + 1;
      for (int l = 0; l < visible; ++l) p_rows[i][l] *= layer.softmax_scale;
      kernels.attention.softmax(p_rows[i], visible);
      std::fill(p_rows[i] + visible, p_rows[i] + seen, 0.0f);
    }
    const FloatPanels value_panels{values.data(), v, seen, value_panel};
    kernels.matmul_float(p_rows.data(), count, value_panels, 0, v_panels, out_rows, false);
  }
}

}  // namespace

// s = scale (q_nope W_UK, q_pe) . latent, out = W_UV (sum softmax(s) c_kv), for every row at once: four jobs, whose units
// are heads, blocks of keys, heads, and blocks of dimensions, so that one long context keeps all threads busy.
void attend_absorbed_float(const Engine& engine, const Layer& layer, const std::vector<QueryRow>& rows) {
  constexpr int key_block = 64, dim_block = 64;
  const Kernels& k = engine.kernels;
  const int heads = layer.heads, num_rows = static_cast<int>(rows.size()), width = layer.rank + layer.rope;
  const std::size_t per_row = static_cast<std::size_t>(heads) * (width + layer.rank);
  std::size_t num_scores = 0;
  for (const QueryRow& row : rows) num_scores += static_cast<std::size_t>(heads) * row.num_keys;
  std::vector<float> scratch(per_row * num_rows + num_scores);
  float* free = scratch.data() + per_row * num_rows;
  std::vector<float*> q, p, mixed;  // by row and head
  std::vector<std::pair<int, int>> blocks;  // row, first key
  for (int r = 0; r < num_rows; ++r) {
    float* base = scratch.data() + per_row * r;
    for (int head = 0; head < heads; ++head) {
      q.push_back(base + static_cast<std::size_t>(head) * width);
      mixed.push_back(base + static_cast<std::size_t>(heads) * width + static_cast<std::size_t>(head) * layer.rank);
      p.push_back(free + static_cast<std::size_t>(head) * rows[r].num_keys);
    }
    free += static_cast<std::size_t>(heads) * rows[r].num_keys;
    for (int first = 0; first < rows[r].num_keys; first += key_block) blocks.emplace_back(r, first);
  }
  engine.pool.run(num_rows * heads, [&](int unit, int) {
    const int head = unit % heads;
    const float* from = rows[unit / heads].q + static_cast<std::size_t>(head) * (layer.nope + layer.rope);
    layer.kv_b.absorb(engine, head, from, q[unit]);
    std::memcpy(q[unit] + layer.rank, from + layer.nope, sizeof(float) * static_cast<std::size_t>(layer.rope));
  });
  engine.pool.run(static_cast<int>(blocks.size()), [&](int unit, int) {
    const auto [r, first] = blocks[unit];
    const int last = std::min(first + key_block, rows[r].num_keys), at = r * heads;
    k.attention.scores(&q[at], heads, width, floats(*rows[r].keys), first, last, layer.softmax_scale, &p[at]);
  });
  engine.pool.run(num_rows * heads, [&](int unit, int) { k.attention.softmax(p[unit], rows[unit / heads].num_keys); });
  const int dim_blocks = (layer.rank + dim_block - 1) / dim_block;
  engine.pool.run(num_rows * dim_blocks, [&](int unit, int) {
    const int r = unit / dim_blocks, first = unit % dim_blocks * dim_block, at = r * heads;
    const int last = std::min(first + dim_block, layer.rank);
    k.attention.mix(&p[at], heads, floats(*rows[r].keys), rows[r].num_keys, first, last, &mixed[at]);
  });
  engine.pool.run(num_rows * heads, [&](int unit, int) {
    const Panels value_up = layer.kv_b.value_up(unit % heads);
    float* out = rows[unit / heads].out + static_cast<std::size_t>(unit % heads) * layer.v;
    matmul(engine, &mixed[unit], 1, value_up, 0, value_up.num_panels(), &out, false);
  });
}

void attend_expanded_float(const Engine& engine, const Layer& layer, const Segment& segment, const Latents& keys,
                           const float* q, float* out) {
  const std::size_t depth = static_cast<std::size_t>(layer.nope + layer.rope);
  const std::size_t q_stride = depth * layer.heads, out_stride = static_cast<std::size_t>(layer.heads) * layer.v;
  const std::size_t width = static_cast<std::size_t>(layer.rank + layer.rope);
  std::vector<float> rows(keys.size() * width);
  const std::vector<float> latents = latent_panels(engine, layer, keys, rows.data());
  std::vector<const float*> latent_rows(keys.size());
  for (std::size_t p = 0; p < keys.size(); ++p) latent_rows[p] = rows.data() + p * width;
  engine.pool.run(layer.heads, [&](int head, int) {
    expanded(engine, layer, segment, latents, latent_rows, head, q + q_stride * segment.row + head * depth, q_stride,
             out + out_stride * segment.row + static_cast<std::size_t>(head) * layer.v, out_stride);
  });
}

}  // namespace dsv
