// Sixteen float lanes, the unit that every kernel is written in. Knows no matrix.
// Included once per instruction set, inside that file's anonymous namespace, so that no two builds of it can mix.

struct Lanes;  // load, store and arithmetic below; 16 values whatever the register is

#if defined(__AVX512F__)

struct Lanes {
  __m512 v;
};
inline Lanes zero() { return {_mm512_setzero_ps()}; }
inline Lanes splat(float value) { return {_mm512_set1_ps(value)}; }
inline Lanes load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline void store(float* to, Lanes x) { _mm512_storeu_ps(to, x.v); }
inline Lanes add(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes sub(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes mul(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes div(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes min(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Lanes nearest(Lanes a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Lanes power_of_two(Lanes n) {  // 2^n for whole n in [-126, 127]
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127)), 23))};
}
inline float sum(Lanes a) { return _mm512_reduce_add_ps(a.v); }
inline float largest(Lanes a) { return _mm512_reduce_max_ps(a.v); }
inline Lanes load(const std::uint16_t* bf16) {
  const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bf16));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16))};
}
using Register = __m512;
inline Register register_zero() { return _mm512_setzero_ps(); }
inline Register register_splat(float value) { return _mm512_set1_ps(value); }
inline Register register_load(const float* from) { return _mm512_loadu_ps(from); }
inline void register_store(float* to, Register x) { _mm512_storeu_ps(to, x); }
inline Register register_fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
inline Register register_even(const std::uint8_t* pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
}
inline Register register_odd(const std::uint8_t* pairs) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(pairs), high));
}
inline __m256i load32(const std::uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline Register register_bf16(const std::uint8_t* values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load32(values)), 16));
}
inline Register register_fp16(const std::uint8_t* values) { return _mm512_cvtph_ps(load32(values)); }
template <bool Odd>
inline Register register_e4m3(const std::uint8_t* pairs) {
  const __m256i both = load32(pairs), high = Odd ? both : _mm256_slli_epi16(both, 8);
  const __m256i mask = _mm256_set1_epi16(static_cast<short>(0xbf80));
  return _mm512_cvtph_ps(_mm256_and_si256(_mm256_srai_epi16(high, 1), mask));
}

#elif defined(__AVX2__)

struct Lanes {
  __m256 a, b;
};
inline Lanes zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Lanes splat(float value) {
  const __m256 v = _mm256_set1_ps(value);
  return {v, v};
}
inline Lanes load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline void store(float* to, Lanes x) {
  _mm256_storeu_ps(to, x.a);
  _mm256_storeu_ps(to + 8, x.b);
}
inline Lanes add(Lanes x, Lanes y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Lanes sub(Lanes x, Lanes y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Lanes mul(Lanes x, Lanes y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Lanes div(Lanes x, Lanes y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline Lanes fma(Lanes x, Lanes y, Lanes z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Lanes max(Lanes x, Lanes y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Lanes min(Lanes x, Lanes y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline Lanes nearest(Lanes x) {
  constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.a, mode), _mm256_round_ps(x.b, mode)};
}
inline Lanes power_of_two(Lanes n) {  // 2^n for whole n in [-126, 127]
  const __m256i bias = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.a), bias), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.b), bias), 23))};
}
inline float sum(Lanes x) {
  const __m256 s = _mm256_add_ps(x.a, x.b);
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
inline float largest(Lanes x) {
  const __m256 s = _mm256_max_ps(x.a, x.b);
  __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_max_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}
inline __m256 widen8(const std::uint16_t* bf16) {
  const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bf16));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
inline Lanes load(const std::uint16_t* bf16) { return {widen8(bf16), widen8(bf16 + 8)}; }
using Register = __m256;
inline Register register_zero() { return _mm256_setzero_ps(); }
inline Register register_splat(float value) { return _mm256_set1_ps(value); }
inline Register register_load(const float* from) { return _mm256_loadu_ps(from); }
inline void register_store(float* to, Register x) { _mm256_storeu_ps(to, x); }
inline Register register_fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
inline Register register_even(const std::uint8_t* pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs)), 16));
}
inline Register register_odd(const std::uint8_t* pairs) {
  const Register high = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u)));
  return _mm256_and_ps(_mm256_loadu_ps(reinterpret_cast<const float*>(pairs)), high);
}
inline __m128i load16(const std::uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
inline Register register_bf16(const std::uint8_t* values) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(values)), 16));
}
inline Register register_fp16(const std::uint8_t* values) { return _mm256_cvtph_ps(load16(values)); }
template <bool Odd>
inline Register register_e4m3(const std::uint8_t* pairs) {
  const __m128i both = load16(pairs), high = Odd ? both : _mm_slli_epi16(both, 8);
  return _mm256_cvtph_ps(_mm_and_si128(_mm_srai_epi16(high, 1), _mm_set1_epi16(static_cast<short>(0xbf80))));
}

#else  // plain C++, which compilers turn into whatever the target has; also what the others are compared with

struct Lanes {
  float v[16];
};
template <class F>
inline Lanes each(F f) {
  Lanes r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
inline Lanes zero() { return each([](int) { return 0.0f; }); }
inline Lanes splat(float value) { return each([=](int) { return value; }); }
inline Lanes load(const float* from) { return each([=](int i) { return from[i]; }); }
inline void store(float* to, const Lanes& x) { std::memcpy(to, x.v, sizeof x.v); }
inline Lanes add(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] + b.v[i]; }); }
inline Lanes sub(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] - b.v[i]; }); }
inline Lanes mul(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] * b.v[i]; }); }
inline Lanes div(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] / b.v[i]; }); }
inline Lanes fma(const Lanes& a, const Lanes& b, const Lanes& c) {
  return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Lanes max(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline Lanes min(const Lanes& a, const Lanes& b) { return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline Lanes nearest(const Lanes& a) { return each([&](int i) { return std::nearbyint(a.v[i]); }); }
inline Lanes power_of_two(const Lanes& n) {
  return each([&](int i) { return std::bit_cast<float>((static_cast<std::int32_t>(n.v[i]) + 127) << 23); });
}
inline float sum(const Lanes& a) {
  float r = 0.0f;
  for (float value : a.v) r += value;
  return r;
}
inline float largest(const Lanes& a) {
  float r = a.v[0];
  for (float value : a.v) r = value > r ? value : r;
  return r;
}
inline float widen1(std::uint16_t bf16) { return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16); }
inline Lanes load(const std::uint16_t* bf16) { return each([=](int i) { return widen1(bf16[i]); }); }
using Register = Lanes;
inline Register register_zero() { return zero(); }
inline Register register_splat(float value) { return splat(value); }
inline Register register_load(const float* from) { return load(from); }
inline void register_store(float* to, const Register& x) { store(to, x); }
inline Register register_fma(const Register& a, const Register& b, const Register& c) { return fma(a, b, c); }
template <class T>
inline T value_at(const std::uint8_t* from, int index) {
  T value;
  std::memcpy(&value, from + sizeof(T) * static_cast<std::size_t>(index), sizeof value);
  return value;
}
inline float half_to_float(std::uint16_t half) {  // exact; infinities and NaN do not occur in what is packed
  const float size = std::bit_cast<float>(static_cast<std::uint32_t>(half & 0x7fff) << 13) * 0x1p112f;
  return half & 0x8000 ? -size : size;
}
inline Register register_even(const std::uint8_t* pairs) {
  return each([=](int i) { return widen1(value_at<std::uint16_t>(pairs, 2 * i)); });
}
inline Register register_odd(const std::uint8_t* pairs) {
  return each([=](int i) { return widen1(value_at<std::uint16_t>(pairs, 2 * i + 1)); });
}
inline Register register_bf16(const std::uint8_t* values) {
  return each([=](int i) { return widen1(value_at<std::uint16_t>(values, i)); });
}
inline Register register_fp16(const std::uint8_t* values) {
  return each([=](int i) { return half_to_float(value_at<std::uint16_t>(values, i)); });
}
template <bool Odd>
inline Register register_e4m3(const std::uint8_t* pairs) {
  return each([=](int i) {
    const int code = pairs[2 * i + Odd];
    return half_to_float(static_cast<std::uint16_t>((code & 0x7f) << 7 | (code & 0x80) << 8));
  });
}

#endif

// e4m3 as half precision has the same bits at other places and a bias that is 8 larger: register_e4m3 gives value / 256,
// and what packs fp8 multiplies its scales by 256. A shift to the right that keeps the sign brings both to their places.

constexpr int REGISTER = sizeof(Register) / sizeof(float);  // lanes of one register
constexpr int REGISTERS = 16 / REGISTER;                    // registers of sixteen lanes

inline void put(float* to, Lanes value, int count) {
  if (count >= 16) {
    store(to, value);
    return;
  }
  float lanes[16];
  store(lanes, value);
  std::memcpy(to, lanes, sizeof(float) * static_cast<std::size_t>(count));
}

inline Lanes get(const float* from, int count) {
  if (count >= 16) return load(from);
  float lanes[16] = {};
  std::memcpy(lanes, from, sizeof(float) * static_cast<std::size_t>(count));
  return load(lanes);
}

// e^x, |error| < 2 ulp on [-87, 88], 0 below: x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 6 in r
// (the Taylor coefficients; the first one left out is r^7 / 5040 < 1.2e-7 of e^r).
inline Lanes exp(Lanes x) {
  const Lanes clamped = max(min(x, splat(88.0f)), splat(-87.0f));
  const Lanes n = nearest(mul(clamped, splat(1.44269504f)));
  const Lanes r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), clamped));
  Lanes p = splat(1.0f / 720.0f);
  p = fma(p, r, splat(1.0f / 120.0f));
  p = fma(p, r, splat(1.0f / 24.0f));
  p = fma(p, r, splat(1.0f / 6.0f));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return mul(p, power_of_two(n));
}
