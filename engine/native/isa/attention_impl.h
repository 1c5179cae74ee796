// The kernels of attention. Included by kernels_impl.h after lanes.h and words.h; HEADS says how many heads share a key.

// ---- codes

// The powers of two between which a part's largest value is taken for a number; below, its codes are small; above, it counts
// as none, as infinity does. So products of two scales stay within float32.
constexpr int SMALLEST = 127 - 30, LARGEST = 127 + 30;

// (factor, scale) for codes up to kKeyCode of values whose largest has this biased exponent; false: they are not numbers
inline bool key_scale(int exponent, float& factor, float& scale) {
  const bool finite = exponent < LARGEST;
  const int e = !finite ? LARGEST : exponent < SMALLEST ? SMALLEST : exponent;
  factor = std::bit_cast<float>(static_cast<std::uint32_t>(127 + 138 - e) << 23);  // 4096 / 2^(e - 126)
  scale = std::bit_cast<float>(static_cast<std::uint32_t>(e - 138 + 127) << 23);
  return finite;
}

inline int exponent_of(float value) { return static_cast<int>(std::bit_cast<std::uint32_t>(value) >> 23 & 255); }

inline float largest_size(const float* x, int size) {  // NaN and infinity: infinity
  std::uint32_t most = 0;
  for (int i = 0; i < size; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  return std::bit_cast<float>(most < 0x7f800000u ? most : 0x7f800000u);
}

inline void float_words(const float* x, int size, float factor, std::int16_t* to) {  // padded with zeros
  for (int i = 0; i < size; i += 16) {
    float lanes[16];
    store(lanes, mul(get(x + i, size - i), splat(factor)));
    Register values[REGISTERS];
    for (int r = 0; r < REGISTERS; ++r) values[r] = register_load(lanes + REGISTER * r);
    store_words(values, to + i);
  }
  for (int i = (size + 15) / 16 * 16; i < Parts::padded(size); ++i) to[i] = 0;
}

// The largest code of a query's part: with kKeyCode's keys no sum of its products leaves 32 bits. A sum takes two words of
// every sixteen at most where keys are latents, all of them where they are a head's.
inline float query_code(int size, bool heads) {
  const int products = heads ? size : Parts::padded(size) / 8;
  const int most = products == 0 ? 32767 : 2147483647 / kKeyCode / products;
  return static_cast<float>(most < 32767 ? most : 32767);
}

void quantize_query(const float* q, Parts parts, bool heads, float scale, std::int16_t* codes, float* scales) {
  const int sizes[2] = {parts.first, parts.second};
  float units[2];
  for (int part = 0; part < 2; ++part) {
    const float most = query_code(sizes[part], heads);
    float top = largest_size(q, sizes[part]);
    if (!(top < 0x1p30f)) top = std::bit_cast<float>(0x7fc00000u);
    if (top < 0x1p-30f) top = 0x1p-30f;
    units[part] = top / most;
    float_words(q, sizes[part], top == top ? most / top : 0.0f, codes);
    q += sizes[part];
    codes += Parts::padded(sizes[part]);
  }
  scales[0] = scale * units[0];
  scales[1] = units[1] / units[0];
}

inline void put_scales(KeyBlock& block, int key, float first, float second, float value) {
  block.scales[key] = first;
  block.scales[kBlockKeys + key] = second / first;
  block.scales[2 * kBlockKeys + key] = value;
  block.scales[3 * kBlockKeys + key] = 1.0f / value;
}

// Values of every two keys side by side; `codes` (count, stride). What follows the last key has scales that do no harm.
inline void put_values(const std::int16_t* codes, std::size_t stride, int count, int values, std::int16_t* pairs) {
  const std::int16_t nothing[16] = {};
  for (int v = 0; v < values; v += 16)
    for (int key = 0; key < count; key += 2) {
      const std::int16_t* one = codes + stride * static_cast<std::size_t>(key) + v;
      store_pairs(one, key + 1 < count ? one + stride : nothing, pairs + kBlockKeys * v + 16 * key);
    }
}

inline void finish_latents(int count, KeyBlock& block) {
  block.count = count;
  for (int key = count; key < kBlockKeys; ++key) put_scales(block, key, 1.0f, 1.0f, 1.0f);
  const std::size_t stride = static_cast<std::size_t>(block.parts.stride());
  std::memset(block.codes + stride * static_cast<std::size_t>(count), 0,
              sizeof(std::int16_t) * stride * static_cast<std::size_t>((count + 3) / 4 * 4 - count));
  put_values(block.codes, stride, count, block.values, block.pairs);
}

// words of `size` values at `from`, sixteen at a time, padded with zeros
template <class Value, class Convert>
inline void padded_words(const Value* from, int size, std::int16_t* to, Convert convert) {
  int i = 0;
  for (; i + 16 <= size; i += 16) convert(from + i, to + i);
  if (i < size) {
    Value last[16] = {};
    std::memcpy(last, from + i, sizeof(Value) * static_cast<std::size_t>(size - i));
    convert(last, to + i);
    i += 16;
  }
  for (; i < Parts::padded(size); ++i) to[i] = 0;
}

inline std::uint16_t largest_bits_of(const std::uint16_t* bf16, int size) {
  const int whole = size / 16 * 16;
  std::uint16_t most = largest_bits(bf16, whole);
  for (int i = whole; i < size; ++i) most = (bf16[i] & 0x7fff) > most ? bf16[i] & 0x7fff : most;
  return most;
}

constexpr int AHEAD = 4;  // latents

inline void prefetch(const void* from, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(from) + at);
}

void load_bf16(const std::uint8_t* const* latents, int count, KeyBlock& block) {
  const Parts parts = block.parts;
  block.finite = true;
  for (int key = 0; key < count; ++key) {
    const auto* latent = reinterpret_cast<const std::uint16_t*>(latents[key]);
    if (key + AHEAD < count) prefetch(latents[key + AHEAD], 2 * static_cast<std::size_t>(parts.first + parts.second));
    float factor[2], scale[2];
    block.finite &= key_scale(largest_bits_of(latent, parts.first) >> 7, factor[0], scale[0]);
    block.finite &= key_scale(largest_bits_of(latent + parts.first, parts.second) >> 7, factor[1], scale[1]);
    std::int16_t* codes = block.codes + static_cast<std::size_t>(key) * parts.stride();
    padded_words(latent, parts.first, codes,
                 [&](const std::uint16_t* from, std::int16_t* to) { bf16_words(from, factor[0], to); });
    padded_words(latent + parts.first, parts.second, codes + Parts::padded(parts.first),
                 [&](const std::uint16_t* from, std::int16_t* to) { bf16_words(from, factor[1], to); });
    put_scales(block, key, scale[0], scale[1], scale[0]);
  }
  finish_latents(count, block);
}

void load_fp8(const std::uint8_t* const* latents, int count, KeyBlock& block) {
  const Parts parts = block.parts;
  block.finite = true;
  for (int key = 0; key < count; ++key) {
    const std::uint8_t* latent = latents[key];
    if (key + AHEAD < count) prefetch(latents[key + AHEAD], static_cast<std::size_t>(parts.first + parts.second + 2));
    float scale[2];
    for (int part = 0; part < 2; ++part) {  // a code is eight times what e4m3 says: 448 * 8 < 4096
      const int exponent = latent[parts.first + parts.second + part];
      block.finite &= exponent < LARGEST;
      const int e = exponent < SMALLEST ? SMALLEST : exponent < LARGEST ? exponent : LARGEST;
      scale[part] = std::bit_cast<float>(static_cast<std::uint32_t>(e - 3) << 23);
    }
    std::int16_t* codes = block.codes + static_cast<std::size_t>(key) * parts.stride();
    padded_words(latent, parts.first, codes, e4m3_words);
    padded_words(latent + parts.first, parts.second, codes + Parts::padded(parts.first), e4m3_words);
    put_scales(block, key, scale[0], scale[1], scale[0]);
  }
  finish_latents(count, block);
}

// The largest size of each of sixteen columns of x (rows, 64); infinity where one is no number.
inline void largest_of_columns(const float* x, int rows, float* out) {
  std::uint32_t most[16] = {};
  for (int row = 0; row < rows; ++row)
    for (int lane = 0; lane < 16; ++lane) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[kBlockKeys * row + lane]) & 0x7fffffffu;
      most[lane] = bits > most[lane] ? bits : most[lane];
    }
  for (int lane = 0; lane < 16; ++lane)
    out[lane] = std::bit_cast<float>(most[lane] < 0x7f800000u ? most[lane] : 0x7f800000u);
}

void load_head(const float* keys, const float* values, std::size_t value_stride, int count, KeyBlock& block) {
  const Parts parts = block.parts;
  block.finite = true;
  block.count = count;
  float factors[3][kBlockKeys], scales[3][kBlockKeys];
  for (int key = 0; key < count; key += 16)
    for (int part = 0; part < 2; ++part) {
      float largest_sizes[16];
      largest_of_columns(keys + key + (part ? kBlockKeys * parts.first : 0), part ? parts.second : parts.first,
                         largest_sizes);
      for (int lane = 0; lane < 16 && key + lane < count; ++lane)
        block.finite &= key_scale(exponent_of(largest_sizes[lane]), factors[part][key + lane], scales[part][key + lane]);
    }
  for (int key = 0; key < count; ++key) {
    const float top = largest_size(values + value_stride * static_cast<std::size_t>(key), block.values);
    block.finite &= key_scale(exponent_of(top), factors[2][key], scales[2][key]);
    put_scales(block, key, scales[0][key], scales[1][key], scales[2][key]);
  }
  for (int key = count; key < kBlockKeys; ++key) {
    put_scales(block, key, 1.0f, 1.0f, 1.0f);
    factors[0][key] = factors[1][key] = 0.0f;
  }
  for (int part = 0, at = 0; part < 2; ++part) {
    const int size = part ? parts.second : parts.first;
    std::int16_t* to = block.codes + kBlockKeys * (part ? Parts::padded(parts.first) : 0);
    for (int d = 0; d < size; d += 2, to += 2 * kBlockKeys)
      for (int key = 0; key < count; key += 16) {
        std::int16_t two[2][16] = {};
        for (int one = 0; one < 2 && d + one < size; ++one) {
          float lanes[16];
          store(lanes, mul(load(keys + kBlockKeys * (at + d + one) + key), load(factors[part] + key)));
          for (int lane = count - key; lane < 16; ++lane) lanes[lane] = 0.0f;
          Register registers[REGISTERS];
          for (int r = 0; r < REGISTERS; ++r) registers[r] = register_load(lanes + REGISTER * r);
          store_words(registers, two[one]);
        }
        store_pairs(two[0], two[1], to + 2 * key);
      }
    at += size;
  }
  std::int16_t codes[kBlockKeys * 32];  // 32 values of every key at a time
  for (int v = 0; v < block.values; v += 32) {
    const int size = block.values - v < 32 ? block.values - v : 32;
    for (int key = 0; key < count; ++key)
      float_words(values + value_stride * static_cast<std::size_t>(key) + v, size, factors[2][key], codes + 32 * key);
    put_values(codes, 32, count, size, block.pairs + kBlockKeys * v);
  }
}

// ---- scores, weights, sums

constexpr int KEYS = 4;  // that a tile of scores has
constexpr int QUERIES = HEADS < 4 ? 2 : 4;

template <int Q>
inline void score_keys(const std::int16_t* const* q, const float* const* q_scales, const KeyBlock& block, int key,
                       float* const* out) {
  const std::size_t stride = static_cast<std::size_t>(block.parts.stride());
  const int middle = Parts::padded(block.parts.first);
  const std::int16_t* keys[KEYS];
  for (int k = 0; k < KEYS; ++k) keys[k] = block.codes + stride * static_cast<std::size_t>(key + k);
  Register values[Q][KEYS];
  {
    Ints sums[Q][KEYS];
    for (int i = 0; i < Q; ++i)
      for (int k = 0; k < KEYS; ++k) sums[i][k] = ints_zero();
    for (int d = middle; d < static_cast<int>(stride); d += WORDS) {
      Words words[KEYS];
      for (int k = 0; k < KEYS; ++k) words[k] = words_load(keys[k] + d);
      for (int i = 0; i < Q; ++i) {
        const Words query = words_load(q[i] + d);
        for (int k = 0; k < KEYS; ++k) sums[i][k] = words_dot(query, words[k], sums[i][k]);
      }
    }
    for (int i = 0; i < Q; ++i)
      for (int k = 0; k < KEYS; ++k)
        values[i][k] = register_mul(register_of(sums[i][k]),
                                    register_splat(q_scales[i][1] * block.scales[kBlockKeys + key + k]));
  }
  Ints sums[Q][KEYS];
  for (int i = 0; i < Q; ++i)
    for (int k = 0; k < KEYS; ++k) sums[i][k] = ints_zero();
  for (int d = 0; d < middle; d += WORDS) {
    Words words[KEYS];
    for (int k = 0; k < KEYS; ++k) words[k] = words_load(keys[k] + d);
    for (int i = 0; i < Q; ++i) {
      const Words query = words_load(q[i] + d);
      for (int k = 0; k < KEYS; ++k) sums[i][k] = words_dot(query, words[k], sums[i][k]);
    }
  }
  for (int i = 0; i < Q; ++i) {
    for (int k = 0; k < KEYS; ++k)
      values[i][k] = register_fma(register_of(sums[i][k]), register_splat(1.0f), values[i][k]);
    sums_of_four(values[i][0], values[i][1], values[i][2], values[i][3], out[i] + key);
  }
}

template <int Q>
inline void dots_of_lanes(const std::int16_t* const* q, int first, int size, const std::int16_t* keys, Register* values) {
  Ints sums[Q][REGISTERS];
  for (int i = 0; i < Q; ++i)
    for (int r = 0; r < REGISTERS; ++r) sums[i][r] = ints_zero();
  for (int d = 0; d < size; d += 2, keys += 2 * kBlockKeys) {
    Words words[REGISTERS];
    for (int r = 0; r < REGISTERS; ++r) words[r] = words_load(keys + WORDS * r);
    for (int i = 0; i < Q; ++i) {
      const Words query = words_pair(q[i] + first + d);
      for (int r = 0; r < REGISTERS; ++r) sums[i][r] = words_dot(query, words[r], sums[i][r]);
    }
  }
  for (int i = 0; i < Q; ++i) pair_sums(sums[i], values + REGISTERS * i);
}

template <int Q>
inline void score_lanes(const std::int16_t* const* q, const float* const* q_scales, const KeyBlock& block, int key,
                        float* const* out) {
  const int middle = Parts::padded(block.parts.first);
  Register first[Q * REGISTERS], second[Q * REGISTERS];
  dots_of_lanes<Q>(q, middle, block.parts.second, block.codes + kBlockKeys * middle + 2 * key, second);
  dots_of_lanes<Q>(q, 0, block.parts.first, block.codes + 2 * key, first);
  for (int i = 0; i < Q; ++i)
    for (int r = 0; r < REGISTERS; ++r) {
      const Register ratio = register_mul(register_splat(q_scales[i][1]),
                                          register_load(block.scales + kBlockKeys + key + REGISTER * r));
      register_store(out[i] + key + REGISTER * r, register_fma(second[REGISTERS * i + r], ratio, first[REGISTERS * i + r]));
    }
}

// Scores of one query become codes of the weights of the sum; the softmax so far goes along. (unit, rescale) of the sum.
inline void weigh(float* scores, float q_scale, const KeyBlock& block, int visible, int query, OnlineSoftmax& state,
                  std::int16_t* codes, float& unit, float& rescale) {
  const int lanes = (visible + 15) / 16 * 16;
  float top = state.top[query];
  for (int i = visible; i < lanes; ++i) scores[i] = 0.0f;
  for (int i = 0; i < lanes; i += 16) store(scores + i, mul(mul(load(scores + i), load(block.scales + i)), splat(q_scale)));
  for (int i = visible; i < lanes; ++i) scores[i] = top;
  Lanes tops = splat(top);
  for (int i = 0; i < lanes; i += 16) tops = max(tops, load(scores + i));
  top = largest(tops);
  for (int i = 0; i < lanes; i += 16)
    store(scores + i, mul(exp(sub(load(scores + i), splat(top))), load(block.scales + 2 * kBlockKeys + i)));
  for (int i = visible; i < lanes; ++i) scores[i] = 0.0f;
  Lanes weights = zero();
  for (int i = 0; i < lanes; i += 16) weights = max(weights, load(scores + i));
  const float heaviest = largest(weights);
  unit = heaviest / static_cast<float>(kWeightCode);
  const Lanes factor = splat(heaviest > 0x1p-120f ? static_cast<float>(kWeightCode) / heaviest : 0.0f);
  Lanes total = zero();
  int i = 0;
  for (; i < lanes; i += 16) {
    const Lanes code = nearest(mul(load(scores + i), factor));
    total = fma(code, load(block.scales + 3 * kBlockKeys + i), total);
    float values[16];
    store(values, code);
    Register registers[REGISTERS];
    for (int r = 0; r < REGISTERS; ++r) registers[r] = register_load(values + REGISTER * r);
    store_words(registers, codes + i);
  }
  for (; i < kBlockKeys; ++i) codes[i] = 0;
  float lane[16];
  store(lane, exp(splat(state.top[query] - top)));
  rescale = lane[0];
  state.total[query] = state.total[query] * rescale + unit * sum(total);
  state.top[query] = top;
}

template <int Q>
inline void mix_tile(const std::int16_t* codes, const KeyBlock& block, const float* units, const float* rescales, int value,
                     const OnlineSoftmax& state, int first) {
  Ints sums[Q][REGISTERS];
  for (int i = 0; i < Q; ++i)
    for (int r = 0; r < REGISTERS; ++r) sums[i][r] = ints_zero();
  const std::int16_t* pairs = block.pairs + kBlockKeys * value;
  for (int key = 0; key < block.count; key += 2, pairs += 32) {
    Words words[REGISTERS];
    for (int r = 0; r < REGISTERS; ++r) words[r] = words_load(pairs + WORDS * r);
    for (int i = 0; i < Q; ++i) {
      const Words weight = words_pair(codes + kBlockKeys * i + key);
      for (int r = 0; r < REGISTERS; ++r) sums[i][r] = words_dot(weight, words[r], sums[i][r]);
    }
  }
  for (int i = 0; i < Q; ++i) {
    Register values[REGISTERS];
    pair_sums(sums[i], values);
    float* to = state.mixed + state.stride * static_cast<std::size_t>(first + i) + value;
    for (int r = 0; r < REGISTERS; ++r, to += REGISTER)
      register_store(to, register_fma(register_splat(rescales[i]), register_load(to),
                                      register_mul(register_splat(units[i]), values[r])));
  }
}

constexpr int QUERIES_AT_ONCE = 64;

// Scores by key tiles, which the first-level cache keeps, then each query's weights, then the sums by sixteen values.
template <bool OF_HEAD>
void attend(const Queries& queries, const KeyBlock& block, const int* visible, OnlineSoftmax& state) {
  constexpr int step = OF_HEAD ? 16 : KEYS, rows = OF_HEAD ? 4 : QUERIES;
  float scores[QUERIES_AT_ONCE][kBlockKeys];
  std::int16_t codes[QUERIES_AT_ONCE * kBlockKeys];
  float units[QUERIES_AT_ONCE], rescales[QUERIES_AT_ONCE];
  const std::int16_t* q[QUERIES_AT_ONCE];
  const float* scales[QUERIES_AT_ONCE];
  float* out[QUERIES_AT_ONCE];
  for (int begin = 0; begin < queries.count; begin += QUERIES_AT_ONCE) {
    const int count = queries.count - begin < QUERIES_AT_ONCE ? queries.count - begin : QUERIES_AT_ONCE;
    for (int i = 0; i < count; ++i) {
      q[i] = queries.codes + static_cast<std::size_t>(begin + i) * block.parts.stride();
      scales[i] = queries.scales + 2 * (begin + i);
      out[i] = scores[i];
    }
    for (int key = 0; key < block.count; key += step) {
      int i = 0;
      if constexpr (OF_HEAD) {
        for (; i + rows <= count; i += rows) score_lanes<rows>(q + i, scales + i, block, key, out + i);
        for (; i < count; ++i) score_lanes<1>(q + i, scales + i, block, key, out + i);
      } else {
        for (; i + rows <= count; i += rows) score_keys<rows>(q + i, scales + i, block, key, out + i);
        for (; i < count; ++i) score_keys<1>(q + i, scales + i, block, key, out + i);
      }
    }
    for (int i = 0; i < count; ++i) {
      const int seen = visible == nullptr || visible[begin + i] > block.count ? block.count : visible[begin + i];
      const bool finite = block.finite && scales[i][0] + scales[i][1] == scales[i][0] + scales[i][1];
      if (seen > 0 && finite) {
        weigh(scores[i], scales[i][0], block, seen, begin + i, state, codes + kBlockKeys * i, units[i], rescales[i]);
        continue;
      }
      std::memset(codes + kBlockKeys * i, 0, sizeof(std::int16_t) * kBlockKeys);
      units[i] = 0.0f;
      rescales[i] = 1.0f;
      if (seen > 0) state.total[begin + i] = std::bit_cast<float>(0x7fc00000u);
    }
    for (int value = 0; value < block.values; value += 16) {
      constexpr int tile = 4;
      int i = 0;
      for (; i + tile <= count; i += tile)
        mix_tile<tile>(codes + kBlockKeys * i, block, units + i, rescales + i, value, state, begin + i);
      for (; i < count; ++i)
        mix_tile<1>(codes + kBlockKeys * i, block, units + i, rescales + i, value, state, begin + i);
    }
  }
}

// ---- float32 latents, and single steps

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
