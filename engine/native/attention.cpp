// Multi-head latent attention over pages: which form serves which request, and where its keys lie. Knows no arithmetic.
#include "attention.h"

#include <cstring>

namespace dsv {
namespace {

// Products of one head for n rows and L keys: absorbed n L (2 rank + rope) + n (nope + v) rank, expanded
// L (nope + v) rank + n L (nope + rope + v). A single row always stays absorbed.
bool expands(const Layer& layer, const Segment& segment) {
  const double n = segment.length, keys = segment.start + segment.length;
  const double weights = static_cast<double>(layer.nope + layer.v) * layer.rank;
  const double absorbed = n * keys * (2 * layer.rank + layer.rope) + n * weights;
  const double expanded = keys * weights + n * keys * (layer.nope + layer.rope + layer.v);
  return n > 1 && expanded < absorbed;
}

Latents keys_of(const Layer& layer, const Step& step, const Segment& segment, const void* pages) {
  const std::size_t bytes = latent_bytes(step.cache, layer.rank + layer.rope);
  Latents keys(static_cast<std::size_t>(segment.start + segment.length));
  for (std::size_t p = 0; p < keys.size(); ++p) {
    const std::size_t page = static_cast<std::size_t>(segment.blocks[p / step.block_size]);
    keys[p] = static_cast<const std::uint8_t*>(pages) + (page * step.block_size + p % step.block_size) * bytes;
  }
  return keys;
}

}  // namespace

void widen_latents(const Kernels& kernels, const Layer& layer, CacheFormat format, const std::uint8_t* const* latents,
                   int count, float* out) {
  const int width = layer.rank + layer.rope;
  for (int i = 0; i < count; ++i, out += width) switch (format) {
      case CacheFormat::float32: std::memcpy(out, latents[i], sizeof(float) * static_cast<std::size_t>(width)); break;
      case CacheFormat::bf16: kernels.widen(reinterpret_cast<const std::uint16_t*>(latents[i]), width, out); break;
      case CacheFormat::fp8: kernels.attention.widen_fp8(latents[i], {layer.rank, layer.rope}, out); break;
    }
}

void attend(const Engine& engine, const Layer& layer, const Step& step, const void* pages, const float* q, float* out) {
  std::vector<Latents> keys;
  for (const Segment& segment : step.segments) keys.push_back(keys_of(layer, step, segment, pages));
  std::vector<QueryRow> rows;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Segment& segment = step.segments[i];
    if (expands(layer, segment)) {
      if (step.cache == CacheFormat::float32)
        attend_expanded_float(engine, layer, segment, keys[i], q, out);
      else
        attend_expanded(engine, layer, step.cache, segment, keys[i], q, out);
      continue;
    }
    for (int row = 0; row < segment.length; ++row) {
      const std::size_t at = static_cast<std::size_t>(segment.row + row) * layer.heads;
      rows.push_back({&keys[i], segment.start + row + 1, q + at * (layer.nope + layer.rope), out + at * layer.v});
    }
  }
  if (rows.empty()) return;
  if (step.cache == CacheFormat::float32)
    attend_absorbed_float(engine, layer, rows);
  else
    attend_absorbed(engine, layer, step.cache, rows);
}

}  // namespace dsv
