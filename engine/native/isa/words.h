// Sixteen-bit words and the sums of their products, the unit of attention's kernels. Knows no attention.
// Included once per instruction set, after lanes.h. WORDS words fill a register; two products go to each of its sums.

#if defined(__AVX512F__)

using Words = __m512i;
using Ints = __m512i;
inline Ints ints_zero() { return _mm512_setzero_si512(); }
inline Words words_load(const std::int16_t* from) { return _mm512_loadu_si512(from); }
inline Words words_pair(const std::int16_t* pair) {  // two words, again and again
  std::int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return _mm512_set1_epi32(both);
}
inline Ints words_dot(Words a, Words b, Ints sums) {
#if defined(__AVX512VNNI__)
  return _mm512_dpwssd_epi32(sums, a, b);
#else
  return _mm512_add_epi32(sums, _mm512_madd_epi16(a, b));
#endif
}
inline Register register_of(Ints sums) { return _mm512_cvtepi32_ps(sums); }
inline Register register_mul(Register a, Register b) { return _mm512_mul_ps(a, b); }
inline void sums_of_four(Register a, Register b, Register c, Register d, float* out) {
  const auto half = [](Register x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  };
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(half(a), half(b)), _mm256_hadd_ps(half(c), half(d)));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}
// words of sixteen values each of two keys, side by side as words_dot wants them
inline void store_pairs(const std::int16_t* one, const std::int16_t* two, std::int16_t* to) {
  const auto wide = [](const std::int16_t* from) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  };
  _mm512_storeu_si512(to, _mm512_or_si512(wide(one), _mm512_slli_epi32(wide(two), 16)));
}
// the sums over such pairs, as sixteen values in their order
inline void pair_sums(const Ints* sums, Register* values) { values[0] = _mm512_cvtepi32_ps(sums[0]); }
// sixteen values, rounded
inline void store_words(const Register* values, std::int16_t* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(values[0])));
}
inline void bf16_words(const std::uint16_t* from, float factor, std::int16_t* to) {  // sixteen
  const Register value = _mm512_mul_ps(load(from).v, _mm512_set1_ps(factor));
  store_words(&value, to);
}
inline void e4m3_values(const std::uint8_t* from, float* to) {  // sixteen, by 2^8
  const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i size = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x7f)), 7);
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
  _mm512_storeu_ps(to, _mm512_cvtph_ps(_mm256_or_si256(size, sign)));
}
inline void e4m3_words(const std::uint8_t* from, std::int16_t* to) {  // sixteen, times eight
  float values[16];
  e4m3_values(from, values);
  const Register value = _mm512_mul_ps(_mm512_loadu_ps(values), _mm512_set1_ps(2048.0f));
  store_words(&value, to);
}
inline std::uint16_t largest_bits(const std::uint16_t* bf16, int size) {  // of a multiple of sixteen, without their signs
  const __m256i mask = _mm256_set1_epi16(0x7fff);
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < size; i += 16)
    most = _mm256_max_epu16(
        most, _mm256_and_si256(mask, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bf16 + i))));
  // the smallest of the complements is what an instruction finds
  const __m128i both = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(both, _mm_set1_epi16(-1)));
  return static_cast<std::uint16_t>(~_mm_extract_epi16(least, 0));
}

#elif defined(__AVX2__)

using Words = __m256i;
using Ints = __m256i;
inline Ints ints_zero() { return _mm256_setzero_si256(); }
inline Words words_load(const std::int16_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline Words words_pair(const std::int16_t* pair) {  // two words, again and again
  std::int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return _mm256_set1_epi32(both);
}
inline Ints words_dot(Words a, Words b, Ints sums) { return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)); }
inline Register register_of(Ints sums) { return _mm256_cvtepi32_ps(sums); }
inline Register register_mul(Register a, Register b) { return _mm256_mul_ps(a, b); }
inline void sums_of_four(Register a, Register b, Register c, Register d, float* out) {
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}
// words of sixteen values each of two keys, side by side as words_dot wants them
inline void store_pairs(const std::int16_t* one, const std::int16_t* two, std::int16_t* to) {
  const Words a = words_load(one), b = words_load(two);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_unpacklo_epi16(a, b));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16), _mm256_unpackhi_epi16(a, b));
}
// the sums over such pairs, as sixteen values in their order: unpacking left them in halves
inline void pair_sums(const Ints* sums, Register* values) {
  values[0] = _mm256_cvtepi32_ps(_mm256_permute2x128_si256(sums[0], sums[1], 0x20));
  values[1] = _mm256_cvtepi32_ps(_mm256_permute2x128_si256(sums[0], sums[1], 0x31));
}
// sixteen values, rounded
inline void store_words(const Register* values, std::int16_t* to) {
  const __m256i packed = _mm256_packs_epi32(_mm256_cvtps_epi32(values[0]), _mm256_cvtps_epi32(values[1]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed, 0xd8));
}
inline void bf16_words(const std::uint16_t* from, float factor, std::int16_t* to) {  // sixteen
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), none = _mm256_setzero_si256();
  const __m256 low = _mm256_castsi256_ps(_mm256_unpacklo_epi16(none, bits));
  const __m256 high = _mm256_castsi256_ps(_mm256_unpackhi_epi16(none, bits));
  const __m256 by = _mm256_set1_ps(factor);  // packing puts the halves back where unpacking took them from
  const __m256i packed =
      _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(low, by)), _mm256_cvtps_epi32(_mm256_mul_ps(high, by)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), packed);
}
inline void e4m3_values(const std::uint8_t* from, float* to) {  // sixteen, by 2^8
  const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i size = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x7f)), 7);
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
  const __m256i half = _mm256_or_si256(size, sign);
  _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm256_castsi256_si128(half)));
  _mm256_storeu_ps(to + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)));
}
// Sixteen, times eight. A code s eeee mmm is (8 + m) 2^(e - 10), or m 2^-9 where e is zero: two tables of sixteen bytes give
// twice the significand and 2^(e - 1), in bytes of a word each, and a multiplication that rounds does the rest.
inline void e4m3_words(const std::uint8_t* from, std::int16_t* to) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)), none = _mm_setzero_si128();
  const __m128i exponent = _mm_and_si128(_mm_srli_epi16(codes, 3), _mm_set1_epi8(15));
  const __m128i implied = _mm_shuffle_epi8(_mm_setr_epi8(0, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16), exponent);
  const __m128i fraction = _mm_and_si128(_mm_add_epi8(codes, codes), _mm_set1_epi8(14));
  const __m128i significand = _mm_or_si128(fraction, implied);
  const __m128i power_low =
      _mm_shuffle_epi8(_mm_setr_epi8(1, 1, 2, 4, 8, 16, 32, 64, static_cast<char>(128), 0, 0, 0, 0, 0, 0, 0), exponent);
  const __m128i power_high = _mm_shuffle_epi8(_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64), exponent);
  const auto words = [&](__m128i size, __m128i power, __m128i sign) {
    return _mm_sign_epi16(_mm_mulhrs_epi16(size, power), sign);
  };
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   words(_mm_unpacklo_epi8(none, significand), _mm_unpacklo_epi8(power_low, power_high),
                         _mm_unpacklo_epi8(codes, codes)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8),
                   words(_mm_unpackhi_epi8(none, significand), _mm_unpackhi_epi8(power_low, power_high),
                         _mm_unpackhi_epi8(codes, codes)));
}
inline std::uint16_t largest_bits(const std::uint16_t* bf16, int size) {  // of a multiple of sixteen, without their signs
  const __m256i mask = _mm256_set1_epi16(0x7fff);
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < size; i += 16)
    most = _mm256_max_epu16(
        most, _mm256_and_si256(mask, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bf16 + i))));
  // the smallest of the complements is what an instruction finds
  const __m128i both = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(both, _mm_set1_epi16(-1)));
  return static_cast<std::uint16_t>(~_mm_extract_epi16(least, 0));
}

#else

struct Words {
  std::int16_t v[32];
};
struct Ints {
  std::int32_t v[16];
};
inline Ints ints_zero() { return {}; }
inline Words words_load(const std::int16_t* from) {
  Words words;
  std::memcpy(words.v, from, sizeof words.v);
  return words;
}
inline Words words_pair(const std::int16_t* pair) {  // two words, again and again
  Words words;
  for (int i = 0; i < 32; ++i) words.v[i] = pair[i % 2];
  return words;
}
inline Ints words_dot(const Words& a, const Words& b, const Ints& sums) {
  Ints r;
  for (int i = 0; i < 16; ++i) r.v[i] = sums.v[i] + a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1];
  return r;
}
inline Register register_of(const Ints& sums) {
  return each([&](int i) { return static_cast<float>(sums.v[i]); });
}
inline Register register_mul(const Register& a, const Register& b) { return mul(a, b); }
inline void sums_of_four(const Register& a, const Register& b, const Register& c, const Register& d, float* out) {
  out[0] = sum(a);
  out[1] = sum(b);
  out[2] = sum(c);
  out[3] = sum(d);
}
// words of sixteen values each of two keys, side by side as words_dot wants them
inline void store_pairs(const std::int16_t* one, const std::int16_t* two, std::int16_t* to) {
  for (int i = 0; i < 16; ++i) {
    to[2 * i] = one[i];
    to[2 * i + 1] = two[i];
  }
}
// the sums over such pairs, as sixteen values in their order
inline void pair_sums(const Ints* sums, Register* values) { values[0] = register_of(sums[0]); }
// sixteen values, rounded
inline void store_words(const Register* values, std::int16_t* to) {
  for (int i = 0; i < 16; ++i) to[i] = static_cast<std::int16_t>(std::nearbyint(values[0].v[i]));
}
inline void bf16_words(const std::uint16_t* from, float factor, std::int16_t* to) {  // sixteen
  const Register value = mul(load(from), splat(factor));
  store_words(&value, to);
}
inline void e4m3_values(const std::uint8_t* from, float* to) {  // sixteen, by 2^8
  for (int i = 0; i < 16; ++i)
    to[i] = half_to_float(static_cast<std::uint16_t>((from[i] & 0x7f) << 7 | (from[i] & 0x80) << 8));
}
inline void e4m3_words(const std::uint8_t* from, std::int16_t* to) {  // sixteen, times eight
  float values[16];
  e4m3_values(from, values);
  for (int i = 0; i < 16; ++i) to[i] = static_cast<std::int16_t>(std::nearbyint(2048.0f * values[i]));
}
inline std::uint16_t largest_bits(const std::uint16_t* bf16, int size) {  // of a multiple of sixteen, without their signs
  std::uint16_t most = 0;
  for (int i = 0; i < size; ++i) most = std::max<std::uint16_t>(most, bf16[i] & 0x7fff);
  return most;
}

#endif

constexpr int WORDS = 2 * REGISTER;

inline float value_of(std::uint16_t bf16) { return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16); }
