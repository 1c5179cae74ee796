// Products with int8 and int4 panels on 16-bit activations: exact sums a group, scaled in float32. Included by each
// instruction set's file, inside its anonymous namespace, after products.h and integers.h.

// One prepared row: for each group of columns its codes, padded with zeros, then a scale each, then the sum of its codes
// each (which an int4 zero point meets).
struct IntegerRow {
  int cols, group, groups, padded;

  explicit IntegerRow(const Panels& w)
      : cols(w.cols), group(w.group), groups((w.cols + w.group - 1) / w.group), padded((w.group + 15) / 16 * 16) {}
  std::size_t codes_bytes() const { return sizeof(std::int16_t) * static_cast<std::size_t>(groups) * padded; }
  std::size_t bytes() const { return (codes_bytes() + 2 * sizeof(float) * static_cast<std::size_t>(groups) + 63) / 64 * 64; }
  const std::int16_t* codes(const std::uint8_t* row, int g) const {
    return reinterpret_cast<const std::int16_t*>(row) + static_cast<std::size_t>(g) * padded;
  }
  const float* scales(const std::uint8_t* row) const { return reinterpret_cast<const float*>(row + codes_bytes()); }
  const float* sums(const std::uint8_t* row) const { return scales(row) + groups; }
  int size(int g) const { return g + 1 < groups ? group : cols - g * group; }
};

// The largest code of x with which no sum of a group passes 2^31.
inline float levels(const Panels& w) {
  const float largest_sum = 2147483000.0f / static_cast<float>(w.group * (w.format == Format::int4 ? 15 : 128));
  return largest_sum < 32767.0f ? std::floor(largest_sum) : 32767.0f;
}

// The step between codes of x, and its inverse. A group without a value that counts has codes of zero, and one with a
// number that is none codes of zero and a step that is none.
struct Step16 {
  float step, inverse;
};
inline Step16 step_of(const float* x, int size, float most) {
  Lanes tops = zero(), none = zero();
  for (int i = 0; i < size; i += 16) {
    const Lanes value = get(x + i, size - i);
    tops = max(tops, max(value, sub(zero(), value)));
    none = fma(value, zero(), none);
  }
  const float top = largest(tops), invalid = sum(none);
  if (!(invalid == 0.0f)) return {invalid, 0.0f};
  if (top < 0x1p-100f) return {0.0f, 0.0f};
  return {top / most, most / top};
}

// rest = x - code * step, which float32 holds exactly but for its last digit
inline void leave(const float* from, int size, Step16 step, float* rest) {
  for (int i = 0; i < size; i += 16) {
    const Lanes value = get(from + i, size - i), code = nearest(mul(value, splat(step.inverse)));
    put(rest + i, step.inverse == 0.0f ? zero() : fma(code, splat(-step.step), value), size - i);
  }
}

void prepare_integers(const float* x, const Panels& w, std::uint8_t* out, float* rest) {
  const IntegerRow row(w);
  const float most = levels(w);
  for (int g = 0; g < row.groups; ++g) {
    const float* from = x + static_cast<std::size_t>(g) * row.group;
    const int size = row.size(g);
    auto* codes = const_cast<std::int16_t*>(row.codes(out, g));
    const Step16 step = step_of(from, size, most);
    if (step.inverse == 0.0f) {
      std::memset(codes, 0, sizeof(std::int16_t) * static_cast<std::size_t>(row.padded));
    } else {
      const Lanes inverse = splat(step.inverse);
      for (int i = 0; i < row.padded; i += 16)
        store_int16(codes + i, i < size ? mul(get(from + i, size - i), inverse) : zero());
    }
    if (rest != nullptr) leave(from, size, step, rest + static_cast<std::size_t>(g) * row.group);
    std::int32_t total = 0;
    for (int i = 0; i < row.padded; ++i) total += codes[i];
    const_cast<float*>(row.scales(out))[g] = step.step;
    const_cast<float*>(row.sums(out))[g] = static_cast<float>(total);
  }
}

// sum_k x (q - zero) scale = step scale (sum_k c q - zero sum_k c), c the codes of x
template <Format F>
inline Register scaled(Register sums, Register zero_point, float sum_of_x, Register scale, float step, Register before) {
  if constexpr (F == Format::int4) sums = register_fma(register_splat(-sum_of_x), zero_point, sums);
  return register_fma(register_fma(scale, register_splat(step), register_zero()), sums, before);
}

template <Format F>
struct ProductIntegers {
  const std::uint8_t* x;
  std::size_t stride;
  const Panels& w;
  static constexpr int panels_of_one = 1;  // one stream: the sums' additions follow each other closely enough

  // Pairs J of the words at `codes`, of N registers, times those of x, for every row. With several rows each step loads its
  // words anew, which a compiler would rather keep: in registers that the sums need.
  template <int J, int M, int N>
  static inline void add_pairs(Integers (&s)[M][N], const std::uint8_t* codes, std::size_t panel_stride,
                               const std::int16_t* const (&x_codes)[M], int k) {
    Integers both[N];
    for (int n = 0; n < N; ++n)
      both[n] = pairs<F, J>(integers_load(codes + panel_stride * (n / REGISTERS) + 4 * REGISTER * (n % REGISTERS)));
    for (int m = 0; m < M; ++m) {
      const Integers xk = integers_splat(x_codes[m] + k + 2 * J);
      for (int n = 0; n < N; ++n) s[m][n] = integers_dot(s[m][n], both[n], xk);
    }
    if constexpr (M > 2) asm volatile("" ::: "memory");
  }

  template <int M, int P>
  inline void tile(int row, int first, float* const* out, bool accumulate) const {
    constexpr int N = P * REGISTERS;
    Sums<M, P> sums;
    sums.begin(out, first, w.rows, accumulate);
    const IntegerRow shape(w);
    const std::uint8_t* rows[M];
    for (int m = 0; m < M; ++m) rows[m] = x + stride * static_cast<std::size_t>(row + m);
    const std::size_t panel_stride = w.panel_bytes();
    const std::uint8_t* panel = w.data + panel_stride * static_cast<std::size_t>(first);
    for (int g = 0; g < shape.groups; ++g) {
      const int size = shape.size(g);
      const std::int16_t* x_codes[M];
      for (int m = 0; m < M; ++m) x_codes[m] = shape.codes(rows[m], g);
      Integers s[M][N];
      for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) s[m][n] = integers_zero();
      const std::uint8_t* codes = panel + header_bytes(F);
      for (int k = 0; k < size; k += WORD<F>, codes += 64) {
        for (int p = 0; p < P; ++p) __builtin_prefetch(codes + panel_stride * p + PREFETCH);
        add_pairs<0>(s, codes, panel_stride, x_codes, k);
        add_pairs<1>(s, codes, panel_stride, x_codes, k);
        if constexpr (F == Format::int4) {
          add_pairs<2>(s, codes, panel_stride, x_codes, k);
          add_pairs<3>(s, codes, panel_stride, x_codes, k);
        }
      }
      for (int n = 0; n < N; ++n) {
        const std::uint8_t* at = panel + panel_stride * (n / REGISTERS) + 2 * REGISTER * (n % REGISTERS);
        const Register scale = register_bf16(at);
        const Register zero_point = F == Format::int4 ? register_fp16(at + 32) : register_zero();
        for (int m = 0; m < M; ++m)
          sums.values[m][n] = scaled<F>(integers_float(s[m][n]), zero_point, shape.sums(rows[m])[g], scale,
                                        shape.scales(rows[m])[g], sums.values[m][n]);
      }
      panel = codes;
    }
    sums.end(out, first, w.rows);
  }
};
