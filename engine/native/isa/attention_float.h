// Attention in float32, and single steps of both forms; the table of them all. Included once per instruction set after
// attention_impl.h; HEADS says how many heads share a key.

// H heads meet two keys at once. The sum of one head and key does not depend on H: lanes over the dimensions, then the
// lanes, then the tail.
template <int H>
inline void key_dots(const float* const* q, int size, const float* first, const float* second, float scale,
                     float* const* out, int at, bool both) {
  Lanes sums[H][2];
  for (int h = 0; h < H; ++h) sums[h][0] = sums[h][1] = zero();
  int d = 0;
  for (; d + 16 <= size; d += 16) {
    const Lanes a = load(first + d), b = load(second + d);
    for (int h = 0; h < H; ++h) {
      const Lanes query = load(q[h] + d);
      sums[h][0] = fma(query, a, sums[h][0]);
      sums[h][1] = fma(query, b, sums[h][1]);
    }
  }
  for (int h = 0; h < H; ++h) {
    float one = sum(sums[h][0]), two = sum(sums[h][1]);
    for (int t = d; t < size; ++t) {
      one += q[h][t] * first[t];
      two += q[h][t] * second[t];
    }
    out[h][at] = scale * one;
    if (both) out[h][at + 1] = scale * two;
  }
}

void scores(const float* const* q, int num_heads, int size, const float* const* keys, int first, int last, float scale,
            float* const* out) {
  for (int l = first; l < last; l += 2) {
    const bool both = l + 1 < last;
    const float* one = keys[l];
    const float* two = keys[both ? l + 1 : l];
    int h = 0;
    for (; h + HEADS <= num_heads; h += HEADS) key_dots<HEADS>(q + h, size, one, two, scale, out + h, l, both);
    for (; h < num_heads; ++h) key_dots<1>(q + h, size, one, two, scale, out + h, l, both);
  }
}

void softmax(float* values, int size) {
  float top = values[0];
  int i = 0;
  if (size >= 16) {
    Lanes tops = load(values);
    for (i = 16; i + 16 <= size; i += 16) tops = max(tops, load(values + i));
    top = largest(tops);
  }
  for (; i < size; ++i) top = values[i] > top ? values[i] : top;
  Lanes sums = zero();
  for (i = 0; i + 16 <= size; i += 16) {
    const Lanes e = exp(sub(load(values + i), splat(top)));
    sums = add(sums, e);
    store(values + i, e);
  }
  float total = sum(sums);
  if (i < size) {
    float lanes[16];
    store(lanes, exp(sub(get(values + i, size - i), splat(top))));
    for (int j = 0; i + j < size; ++j) {
      values[i + j] = lanes[j];
      total += lanes[j];
    }
  }
  const float inverse = 1.0f / total;
  for (i = 0; i + 16 <= size; i += 16) store(values + i, mul(load(values + i), splat(inverse)));
  for (; i < size; ++i) values[i] *= inverse;
}

template <int H, int B>
inline void mix_block(const float* const* p, const float* const* keys, int num_keys, int d, float* const* out) {
  Lanes sums[H][B];
  for (int h = 0; h < H; ++h)
    for (int b = 0; b < B; ++b) sums[h][b] = zero();
  for (int l = 0; l < num_keys; ++l) {
    // a line of each key, at a distance that no hardware prefetcher follows
    __builtin_prefetch(keys[l + 16 < num_keys ? l + 16 : num_keys - 1] + d);
    Lanes key[B];
    for (int b = 0; b < B; ++b) key[b] = load(keys[l] + d + 16 * b);
    for (int h = 0; h < H; ++h) {
      const Lanes weight = splat(p[h][l]);
      for (int b = 0; b < B; ++b) sums[h][b] = fma(weight, key[b], sums[h][b]);
    }
  }
  for (int h = 0; h < H; ++h)
    for (int b = 0; b < B; ++b) store(out[h] + d + 16 * b, sums[h][b]);
}

template <int B>
inline void mix_heads(const float* const* p, int num_heads, const float* const* keys, int num_keys, int d,
                      float* const* out) {
  int h = 0;
  for (; h + HEADS <= num_heads; h += HEADS) mix_block<HEADS, B>(p + h, keys, num_keys, d, out + h);
  for (; h < num_heads; ++h) mix_block<1, B>(p + h, keys, num_keys, d, out + h);
}

void mix(const float* const* p, int num_heads, const float* const* keys, int num_keys, int first, int last,
         float* const* out) {
  int d = first;
  for (; d + 32 <= last; d += 32) mix_heads<2>(p, num_heads, keys, num_keys, d, out);
  for (; d + 16 <= last; d += 16) mix_heads<1>(p, num_heads, keys, num_keys, d, out);
  for (; d < last; ++d)
    for (int h = 0; h < num_heads; ++h) {
      float total = 0.0f;
      for (int l = 0; l < num_keys; ++l) total += p[h][l] * keys[l][d];
      out[h][d] = total;
    }
}

void merge(const float* const* mixed, const float* tops, const float* totals, int count, int size, float* out) {
  float top = tops[0], total = 0.0f, weights[kMostSplits];
  for (int s = 1; s < count; ++s) top = tops[s] > top ? tops[s] : top;
  for (int s = 0; s < count; ++s) {
    float lanes[16];
    store(lanes, exp(splat(tops[s] - top)));
    weights[s] = lanes[0];
    total += weights[s] * totals[s];
  }
  const Lanes inverse = splat(1.0f / total);
  for (int i = 0; i < size; i += 16) {
    Lanes sums = zero();
    for (int s = 0; s < count; ++s) sums = fma(splat(weights[s]), load(mixed[s] + i), sums);
    put(out + i, mul(sums, inverse), size - i);
  }
}

void widen_fp8(const std::uint8_t* latent, Parts parts, float* out) {
  const std::uint8_t* exponents = latent + parts.first + parts.second;
  for (const int size : {parts.first, parts.second}) {  // the exponent 255 is infinity, and what it scales no number
    const float scale = std::bit_cast<float>(static_cast<std::uint32_t>(*exponents++) << 23) * 256.0f;
    for (int i = 0; i < size; i += 16) {
      const int count = size - i < 16 ? size - i : 16;
      std::uint8_t codes[16] = {};
      std::memcpy(codes, latent + i, static_cast<std::size_t>(count));
      float values[16];
      e4m3_values(codes, values);
      put(out + i, mul(load(values), splat(scale)), count);
    }
    latent += size;
    out += size;
  }
}

#define ATTENTION_KERNELS \
  {quantize_query, load_bf16, load_fp8, load_head, attend<false>, attend<true>, merge, scores, softmax, mix, widen_fp8}
