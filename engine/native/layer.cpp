// One decoder layer: norms, projections, rotary embedding, the latents' way into the cache. Knows neither how attention
// is computed nor how experts are chosen.
#include "layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace dsv {
namespace {

std::uint16_t round_to_bf16(float value) {  // to nearest, ties to even; NaN stays NaN
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Codes of a part of a latent and the exponent of its scale, as engine/quant/latents.py has them: the smallest power of two
// that brings its largest value to 448 or less.
std::uint8_t encode_e4m3(const float* x, int size, std::uint8_t* codes) {
  std::uint32_t largest = 0;
  for (int i = 0; i < size; ++i) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  if (largest >= 0x7f800000u) {
    std::memset(codes, 0, static_cast<std::size_t>(size));
    return 255;
  }
  // 448 = 1.75 * 2^8
  const int exponent = static_cast<int>(largest >> 23) - 8 + ((largest & 0x7fffffu) > 0x600000u ? 1 : 0);
  const int scale = std::clamp(exponent, 1, 254);
  const float factor = std::bit_cast<float>(static_cast<std::uint32_t>(254 - scale) << 23);
  for (int i = 0; i < size; ++i) {
    const float value = x[i] * factor;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), sign = bits >> 24 & 0x80u;
    const float absolute = std::fabs(value);
    std::uint32_t code;
    if (absolute < 0x1p-6f)  // subnormal: steps of 2^-9; adding 2^14 leaves them as the last bits, rounded to even
      code = std::bit_cast<std::uint32_t>(absolute + 0x1p14f) - std::bit_cast<std::uint32_t>(0x1p14f);
    else
      code = ((std::bit_cast<std::uint32_t>(absolute) + 0x7ffffu + (bits >> 20 & 1u)) >> 20) - (120u << 3);
    codes[i] = static_cast<std::uint8_t>(sign | code);
  }
  return static_cast<std::uint8_t>(scale);
}

// (x[2j], x[2j + 1]) as one complex number times rotation[j]
void rotate(float* x, const float* rotation, int size) {
  for (int i = 0; i < size; i += 2) {
    const float re = x[i], im = x[i + 1], c = rotation[i], s = rotation[i + 1];
    x[i] = re * c - im * s;
    x[i + 1] = re * s + im * c;
  }
}

void norm_rows(const Engine& engine, const float* x, std::size_t stride, const float* weight, float eps, int size,
               int num_rows, float* out, std::size_t out_stride) {
  const auto one = [&](int row, int) {
    engine.kernels.rms_norm(x + row * stride, weight, eps, size, out + row * out_stride);
  };
  if (num_rows <= 4)  // not worth a job
    for (int row = 0; row < num_rows; ++row) one(row, 0);
  else
    engine.pool.run(num_rows, one);
}

// latent (rank + rope) of one row, projected: normalise, rotate, round into its slot
void write_latent(const Engine& engine, const Layer& layer, const Step& step, int row, float* latent, void* pages) {
  engine.kernels.rms_norm(latent, layer.kv_a_norm, kLatentNormEps, layer.rank, latent);
  rotate(latent + layer.rank, step.rotation + static_cast<std::size_t>(row) * layer.rope, layer.rope);
  const int width = layer.rank + layer.rope;
  std::uint8_t* to = static_cast<std::uint8_t*>(pages) + static_cast<std::size_t>(step.slots[row]) * latent_bytes(step.cache, width);
  switch (step.cache) {
    case CacheFormat::float32: std::memcpy(to, latent, sizeof(float) * static_cast<std::size_t>(width)); break;
    case CacheFormat::bf16:
      for (int i = 0; i < width; ++i) {
        const std::uint16_t value = round_to_bf16(latent[i]);
        std::memcpy(to + 2 * i, &value, sizeof value);
      }
      break;
    case CacheFormat::fp8:
      to[width] = encode_e4m3(latent, layer.rank, to);
      to[width + 1] = encode_e4m3(latent + layer.rank, layer.rope, to + layer.rank);
      break;
  }
}

}  // namespace

void run_layer(const Engine& engine, const Layer& layer, const Step& step, void* pages, float* x) {
  const int num_rows = step.num_rows, hidden = layer.hidden;
  const int q_width = layer.heads * (layer.nope + layer.rope), latent_width = layer.rank + layer.rope;
  const int out_width = layer.heads * layer.v;
  const bool compressed = layer.q_a.data != nullptr;
  const int q_rank = compressed ? layer.q_a.rows : 0;
  const std::size_t rows = static_cast<std::size_t>(num_rows);
  std::vector<float> scratch(rows * (hidden + q_width + latent_width + out_width + q_rank));
  float* normed = scratch.data();
  float* q = normed + rows * hidden;
  float* latent = q + rows * q_width;
  float* out = latent + rows * latent_width;
  float* q_low = out + rows * out_width;

  norm_rows(engine, x, hidden, layer.input_norm, layer.eps, hidden, num_rows, normed, hidden);
  const auto x_rows = row_pointers(x, hidden, num_rows), normed_rows = row_pointers(normed, hidden, num_rows);
  const auto q_rows = row_pointers(q, q_width, num_rows), latent_rows = row_pointers(latent, latent_width, num_rows);
  if (compressed) {
    const auto low_rows = row_pointers(q_low, q_rank, num_rows);
    multiply(engine, normed_rows.data(), num_rows,
             {{layer.q_a, low_rows.data()}, {layer.kv_a, latent_rows.data()}});
    norm_rows(engine, q_low, q_rank, layer.q_a_norm, kLatentNormEps, q_rank, num_rows, q_low, q_rank);
    multiply(engine, low_rows.data(), num_rows, {{layer.q_b, q_rows.data()}});
  } else {
    multiply(engine, normed_rows.data(), num_rows, {{layer.q, q_rows.data()}, {layer.kv_a, latent_rows.data()}});
  }

  const auto finish_row = [&](int row, int) {
    write_latent(engine, layer, step, row, latent_rows[row], pages);
    for (int head = 0; head < layer.heads; ++head)
      rotate(q_rows[row] + head * (layer.nope + layer.rope) + layer.nope,
             step.rotation + static_cast<std::size_t>(row) * layer.rope, layer.rope);
  };
  if (num_rows <= 4)
    for (int row = 0; row < num_rows; ++row) finish_row(row, 0);
  else
    engine.pool.run(num_rows, finish_row);

  attend(engine, layer, step, pages, q, out);
  multiply(engine, row_pointers(out, out_width, num_rows).data(), num_rows, {{layer.o, x_rows.data(), true}});

  norm_rows(engine, x, hidden, layer.post_attention_norm, layer.eps, hidden, num_rows, normed, hidden);
  feed_forward(engine, layer, normed, num_rows, x);
}

}  // namespace dsv
