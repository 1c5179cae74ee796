// Every kernel but the products in terms of sixteen lanes, and the table of all. Included by each instruction set's file,
// inside its anonymous namespace, after lanes.h and products.h; HEADS says how many heads share a widened key.

float dot(const float* x, const float* y, int size) {
  Lanes sums[2] = {zero(), zero()};
  int i = 0;
  for (; i + 32 <= size; i += 32)
    for (int s = 0; s < 2; ++s) sums[s] = fma(load(x + i + 16 * s), load(y + i + 16 * s), sums[s]);
  float total = sum(add(sums[0], sums[1]));
  for (; i < size; ++i) total += x[i] * y[i];
  return total;
}

void rms_norm(const float* x, const float* weight, float eps, int size, float* out) {
  const float scale = 1.0f / std::sqrt(dot(x, x, size) / static_cast<float>(size) + eps);
  int i = 0;
  for (; i + 16 <= size; i += 16) store(out + i, mul(load(weight + i), mul(load(x + i), splat(scale))));
  for (; i < size; ++i) out[i] = weight[i] * (x[i] * scale);
}

inline Lanes silu(Lanes x) { return div(x, add(splat(1.0f), exp(sub(zero(), x)))); }

void swiglu(float* gate, const float* up, float scale, int size) {
  for (int i = 0; i < size; i += 16) {
    const int count = size - i;
    const Lanes value = mul(mul(silu(get(gate + i, count)), get(up + i, count)), splat(scale));
    put(gate + i, value, count);
  }
}

#include "words.h"
// clang-format off
#include "attention_codes.h"
#include "attention_impl.h"
#include "attention_float.h"
// clang-format on

void widen(const std::uint16_t* x, int size, float* out) {
  int i = 0;
  for (; i + 16 <= size; i += 16) store(out + i, load(x + i));
  for (; i < size; ++i) out[i] = value_of(x[i]);
}

#define DSV_KERNELS(NAME, SUPPORTED)                                                                             \
  {NAME,     SUPPORTED, prepared_bytes, prepare, matmul, matmul_prepared, matmul_float, rms_norm, swiglu, dot,  \
   ATTENTION_KERNELS, widen, widen_panel}
