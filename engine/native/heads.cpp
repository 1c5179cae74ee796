// kv_b, head by head: where its parts lie, and W_UK in both directions. Knows no attention.
#include <vector>

#include "layer.h"

namespace dsv {
namespace {

std::size_t bytes_of(const Panels& panels) { return panels.num_panels() * panels.panel_bytes(); }

}  // namespace

std::size_t HeadPanels::head_bytes() const {
  const Panels keys{nullptr, rank, nope, format, nope}, values{nullptr, v, rank, format, group};
  const std::size_t scales = static_cast<std::size_t>(num_groups()) * nope * sizeof(float);
  return bytes_of(keys) + bytes_of(values) + 2 * scales;
}

Panels HeadPanels::key_up(int head) const {
  return {data + head_bytes() * static_cast<std::size_t>(head), rank, nope, format, nope};
}

Panels HeadPanels::value_up(int head) const {
  const Panels keys = key_up(head);
  return {keys.data + bytes_of(keys), v, rank, format, group};
}

const float* HeadPanels::key_scales(int head) const {
  const Panels values = value_up(head);
  return reinterpret_cast<const float*>(values.data + bytes_of(values));
}

void HeadPanels::absorb(const Engine& engine, int head, const float* q, float* out) const {
  const Panels keys = key_up(head);
  if (format == Format::bf16) return matmul(engine, &q, 1, keys, 0, keys.num_panels(), &out, false);
  std::vector<float> scaled(static_cast<std::size_t>(nope));
  const float* x = scaled.data();
  const float* scales = key_scales(head);
  const float* zeros = scales + static_cast<std::size_t>(num_groups()) * nope;
  for (int g = 0; g < num_groups(); ++g, scales += nope, zeros += nope) {
    float shift = 0.0f;
    for (int n = 0; n < nope; ++n) {
      scaled[n] = q[n] * scales[n];
      shift += scaled[n] * zeros[n];
    }
    const int first = g * group, last = first + group < rank ? first + group : rank;
    matmul(engine, &x, 1, keys, first / 16, (last + 15) / 16, &out, false);
    for (int c = first; c < last; ++c) out[c] -= shift;
  }
}

void HeadPanels::key_rows(const Kernels& kernels, int head, float* rows) const {
  const Panels keys = key_up(head);
  std::vector<float> panel(static_cast<std::size_t>(nope) * 16);
  for (int first = 0; first < rank; first += 16) {
    kernels.widen_panel(keys, first / 16, panel.data());
    const int count = rank - first < 16 ? rank - first : 16;
    const std::size_t g = format == Format::bf16 ? 0 : static_cast<std::size_t>(first / group);
    const float* scales = format == Format::bf16 ? nullptr : key_scales(head) + g * nope;
    for (int n = 0; n < nope; ++n) {
      const float scale = scales ? scales[n] : 1.0f;
      const float zero = scales ? scales[static_cast<std::size_t>(num_groups()) * nope + n] : 0.0f;
      for (int lane = 0; lane < count; ++lane)
        rows[static_cast<std::size_t>(n) * rank + first + lane] = (panel[16 * n + lane] - zero) * scale;
    }
  }
}

}  // namespace dsv
