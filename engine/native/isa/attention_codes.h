// Queries, keys and values as codes of sixteen bits. Included once per instruction set after words.h. Knows no softmax.

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
