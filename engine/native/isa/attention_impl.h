// Attention over codes: scores, the weights of an online softmax, sums. Included once per instruction set after
// attention_codes.h; HEADS says how many registers there are. Knows no format of a cache.

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
