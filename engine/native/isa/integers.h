// Sums of products of 16-bit integers, a register of 32-bit lanes at a time, and codes widened to pairs of them.
// Included by each instruction set's file, inside its anonymous namespace, after lanes.h.
//
// A word of 32 bits is one row: four int8 codes, or eight int4 codes whose even halves of bytes are columns 0 to 3. So
//     pairs_int8<0>, <1>              columns (0, 2), (1, 3)
//     pairs_int4<0>, <1>, <2>, <3>    columns (0, 2), (1, 3), (4, 6), (5, 7)
// and x is laid out likewise: of each four columns 0, 2, 1, 3 (`store_int16`).

#if defined(__AVX512F__)

using Integers = __m512i;
inline Integers integers_zero() { return _mm512_setzero_si512(); }
inline Integers integers_load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
inline Integers integers_splat(const std::int16_t* pair) {
  std::int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return _mm512_set1_epi32(both);
}
inline Integers integers_dot(Integers sum, Integers w, Integers x) {  // of pairs
#if defined(__AVX512VNNI__)
  return _mm512_dpwssd_epi32(sum, w, x);
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(w, x));
#endif
}
inline Register integers_float(Integers a) { return _mm512_cvtepi32_ps(a); }
template <int J>
inline Integers pairs_int8(Integers word) {
  return _mm512_srai_epi16(J == 0 ? _mm512_slli_epi16(word, 8) : word, 8);
}
template <int J>
inline Integers pairs_int4(Integers word) {
  if constexpr (J == 3) return _mm512_srli_epi16(word, 12);
  const Integers shifted = J == 0 ? word : _mm512_srli_epi16(word, J == 1 ? 8 : 4);
  return _mm512_and_si512(shifted, _mm512_set1_epi16(15));
}
template <Format F>
inline Integers code_of(Integers word, int k) {  // of the word's column k, as 32 bits
  if constexpr (F == Format::int8)
    return _mm512_srai_epi32(_mm512_sll_epi32(word, _mm_cvtsi32_si128(24 - 8 * k)), 24);
  else
    return _mm512_and_si512(_mm512_srl_epi32(word, _mm_cvtsi32_si128(k % 4 * 8 + k / 4 * 4)), _mm512_set1_epi32(15));
}
inline void store_int16(std::int16_t* to, Lanes x) {
  const __m256i natural = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x.v));
  const __m256i low = _mm256_shufflelo_epi16(natural, 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_shufflehi_epi16(low, 0xd8));
}

#elif defined(__AVX2__)

using Integers = __m256i;
inline Integers integers_zero() { return _mm256_setzero_si256(); }
inline Integers integers_load(const std::uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
inline Integers integers_splat(const std::int16_t* pair) {
  std::int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return _mm256_set1_epi32(both);
}
inline Integers integers_dot(Integers sum, Integers w, Integers x) {  // of pairs
#if defined(__AVXVNNI__)
  return _mm256_dpwssd_avx_epi32(sum, w, x);
#else
  // both instructions as one: a compiler that moves the additions behind all products runs out of registers
  Integers products;
  asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(w), "x"(x));
  return sum;
#endif
}
inline Register integers_float(Integers a) { return _mm256_cvtepi32_ps(a); }
template <int J>
inline Integers pairs_int8(Integers word) {
  return _mm256_srai_epi16(J == 0 ? _mm256_slli_epi16(word, 8) : word, 8);
}
template <int J>
inline Integers pairs_int4(Integers word) {
  if constexpr (J == 3) return _mm256_srli_epi16(word, 12);
  const Integers shifted = J == 0 ? word : _mm256_srli_epi16(word, J == 1 ? 8 : 4);
  return _mm256_and_si256(shifted, _mm256_set1_epi16(15));
}
template <Format F>
inline Integers code_of(Integers word, int k) {  // of the word's column k, as 32 bits
  if constexpr (F == Format::int8)
    return _mm256_srai_epi32(_mm256_sll_epi32(word, _mm_cvtsi32_si128(24 - 8 * k)), 24);
  else
    return _mm256_and_si256(_mm256_srl_epi32(word, _mm_cvtsi32_si128(k % 4 * 8 + k / 4 * 4)), _mm256_set1_epi32(15));
}
inline void store_int16(std::int16_t* to, Lanes x) {
  const __m256i packed = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
  const __m256i low = _mm256_shufflelo_epi16(_mm256_permute4x64_epi64(packed, 0xd8), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_shufflehi_epi16(low, 0xd8));
}

#else

struct Integers {
  std::int32_t v[16];
};
template <class F>
inline Integers each_integer(F f) {
  Integers r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
inline std::int32_t low_half(std::int32_t a) { return static_cast<std::int16_t>(a); }
inline std::int32_t high_half(std::int32_t a) { return a >> 16; }
inline std::int32_t halves(std::int32_t low, std::int32_t high) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(high) << 16 | (static_cast<std::uint32_t>(low) & 0xffffu));
}
inline Integers integers_zero() { return each_integer([](int) { return 0; }); }
inline Integers integers_load(const std::uint8_t* from) {
  Integers r;
  std::memcpy(r.v, from, sizeof r.v);
  return r;
}
inline Integers integers_splat(const std::int16_t* pair) {
  return each_integer([=](int) { return halves(pair[0], pair[1]); });
}
inline Integers integers_dot(const Integers& sum, const Integers& w, const Integers& x) {  // of pairs
  return each_integer([&](int i) {
    return sum.v[i] + low_half(w.v[i]) * low_half(x.v[i]) + high_half(w.v[i]) * high_half(x.v[i]);
  });
}
inline Register integers_float(const Integers& a) {
  return each([&](int i) { return static_cast<float>(a.v[i]); });
}
template <int J>
inline Integers pairs_int8(const Integers& word) {
  return each_integer([&](int i) {
    return halves(static_cast<std::int8_t>(word.v[i] >> 8 * J), static_cast<std::int8_t>(word.v[i] >> (16 + 8 * J)));
  });
}
template <int J>
inline Integers pairs_int4(const Integers& word) {
  constexpr int shift = J == 0 ? 0 : J == 1 ? 8 : J == 2 ? 4 : 12;
  return each_integer([&](int i) { return word.v[i] >> shift & 0x000f000f; });
}
template <Format F>
inline Integers code_of(const Integers& word, int k) {  // of the word's column k, as 32 bits
  return each_integer([&](int i) {
    return F == Format::int8 ? static_cast<std::int8_t>(word.v[i] >> 8 * k) : word.v[i] >> (k % 4 * 8 + k / 4 * 4) & 15;
  });
}
inline void store_int16(std::int16_t* to, const Lanes& x) {
  for (int i = 0; i < 16; i += 4) {
    to[i] = static_cast<std::int16_t>(std::nearbyint(x.v[i]));
    to[i + 1] = static_cast<std::int16_t>(std::nearbyint(x.v[i + 2]));
    to[i + 2] = static_cast<std::int16_t>(std::nearbyint(x.v[i + 1]));
    to[i + 3] = static_cast<std::int16_t>(std::nearbyint(x.v[i + 3]));
  }
}

#endif

template <Format F>
constexpr int WORD = F == Format::int4 ? 8 : 4;  // columns of a word

template <Format F, int J>
inline Integers pairs(const Integers& word) {
  if constexpr (F == Format::int4) return pairs_int4<J>(word);
  if constexpr (F == Format::int8) return pairs_int8<J>(word);
}
