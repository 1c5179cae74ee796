// Every kernel in terms of sixteen lanes. Included by each instruction set's file, inside its anonymous namespace,
// after lanes.h; ROWS and PANELS_OF_ONE say how many accumulators its registers hold.

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

inline float total(const float* x, int size) {  // in one order, whatever the caller's rows
  Lanes sums = zero();
  int i = 0;
  for (; i + 16 <= size; i += 16) sums = add(sums, load(x + i));
  float result = sum(sums);
  for (; i < size; ++i) result += x[i];
  return result;
}

// M rows of x times P panels. The sums stay in registers: M * P accumulators of sixteen lanes, P weights and one x, which
// is why the two columns of a pair are loaded one after the other. Arrays of plain registers, not of Lanes: a compiler
// keeps those in registers throughout.
template <int M, int P>
struct Sums {
  static constexpr int N = P * REGISTERS;
  Register values[M][N];

  inline void begin(float* const* out, int first, int num_rows, bool accumulate) {
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) values[m][n] = register_zero();
    if (!accumulate) return;
    for (int m = 0; m < M; ++m)
      for (int p = 0; p < P; ++p) {
        float lanes[16];
        store(lanes, get(out[m] + 16 * (first + p), num_rows - 16 * (first + p)));
        for (int r = 0; r < REGISTERS; ++r) values[m][p * REGISTERS + r] = register_load(lanes + REGISTER * r);
      }
  }

  inline void end(float* const* out, int first, int num_rows) const {
    for (int m = 0; m < M; ++m)
      for (int p = 0; p < P; ++p) {
        float lanes[16];
        for (int r = 0; r < REGISTERS; ++r) register_store(lanes + REGISTER * r, values[m][p * REGISTERS + r]);
        put(out[m] + 16 * (first + p), load(lanes), num_rows - 16 * (first + p));
      }
  }
};

template <int M, int P>
inline void tile_bf16(const float* const* x, const Panels& w, int first, float* const* out, bool accumulate) {
  constexpr int N = P * REGISTERS;
  Sums<M, P> sums;
  sums.begin(out, first, w.rows, accumulate);
  Register s[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) s[m][n] = sums.values[m][n];
  const float* xs[M];
  for (int m = 0; m < M; ++m) xs[m] = x[m];
  const std::uint8_t* panel = w.data + w.panel_bytes() * static_cast<std::size_t>(first);
  const std::size_t stride = w.panel_bytes();
  const int cols = w.cols;
  int k = 0;
  for (; k + 2 <= cols; k += 2, panel += 64) {
    Register columns[N];
    for (int n = 0; n < N; ++n)
      columns[n] = register_even(panel + stride * (n / REGISTERS) + 4 * REGISTER * (n % REGISTERS));
    for (int m = 0; m < M; ++m) {
      const Register xk = register_splat(xs[m][k]);
      for (int n = 0; n < N; ++n) s[m][n] = register_fma(xk, columns[n], s[m][n]);
    }
    for (int n = 0; n < N; ++n)
      columns[n] = register_odd(panel + stride * (n / REGISTERS) + 4 * REGISTER * (n % REGISTERS));
    for (int m = 0; m < M; ++m) {
      const Register xk = register_splat(xs[m][k + 1]);
      for (int n = 0; n < N; ++n) s[m][n] = register_fma(xk, columns[n], s[m][n]);
    }
  }
  if (k < cols)
    for (int n = 0; n < N; ++n) {
      const Register column = register_even(panel + stride * (n / REGISTERS) + 4 * REGISTER * (n % REGISTERS));
      for (int m = 0; m < M; ++m) s[m][n] = register_fma(register_splat(xs[m][k]), column, s[m][n]);
    }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sums.values[m][n] = s[m][n];
  sums.end(out, first, w.rows);
}

// Formats with groups: the codes of a group meet x as float32, and their sums meet the scales once a group:
//     sum_k x (q - zero) scale = scale (sum_k x q - zero sum_k x)
// The sums over groups wait in memory meanwhile.
template <int M, int P, Format F>
inline void tile_groups(const float* const* x, const Panels& w, int first, float* const* out, bool accumulate) {
  constexpr int N = P * REGISTERS;
  constexpr std::size_t header = header_bytes(F);
  Sums<M, P> sums;
  sums.begin(out, first, w.rows, accumulate);
  const float* xs[M];
  for (int m = 0; m < M; ++m) xs[m] = x[m];
  const std::size_t stride = w.panel_bytes();
  const std::uint8_t* panel = w.data + stride * static_cast<std::size_t>(first);
  for (int begin = 0; begin < w.cols; begin += w.group) {
    const int size = w.cols - begin < w.group ? w.cols - begin : w.group;
    Register s[M][N];
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) s[m][n] = register_zero();
    const std::uint8_t* codes = panel + header;
    if constexpr (F == Format::int4) {
      int k = 0;
      for (; k + 2 <= size; k += 2, codes += 16) {
        Register columns[N];
        for (int n = 0; n < N; ++n)
          columns[n] = register_low(codes + stride * (n / REGISTERS) + REGISTER * (n % REGISTERS));
        for (int m = 0; m < M; ++m) {
          const Register xk = register_splat(xs[m][begin + k]);
          for (int n = 0; n < N; ++n) s[m][n] = register_fma(xk, columns[n], s[m][n]);
        }
        for (int n = 0; n < N; ++n)
          columns[n] = register_high(codes + stride * (n / REGISTERS) + REGISTER * (n % REGISTERS));
        for (int m = 0; m < M; ++m) {
          const Register xk = register_splat(xs[m][begin + k + 1]);
          for (int n = 0; n < N; ++n) s[m][n] = register_fma(xk, columns[n], s[m][n]);
        }
      }
      if (k < size) {
        for (int n = 0; n < N; ++n) {
          const Register column = register_low(codes + stride * (n / REGISTERS) + REGISTER * (n % REGISTERS));
          for (int m = 0; m < M; ++m) s[m][n] = register_fma(register_splat(xs[m][begin + k]), column, s[m][n]);
        }
        codes += 16;
      }
    } else {
      for (int k = 0; k < size; ++k, codes += 16) {
        Register columns[N];
        for (int n = 0; n < N; ++n) {
          const std::uint8_t* at = codes + stride * (n / REGISTERS) + REGISTER * (n % REGISTERS);
          columns[n] = F == Format::fp8 ? register_e4m3(at) : register_int8(at);
        }
        for (int m = 0; m < M; ++m) {
          const Register xk = register_splat(xs[m][begin + k]);
          for (int n = 0; n < N; ++n) s[m][n] = register_fma(xk, columns[n], s[m][n]);
        }
      }
    }
    float totals[M];
    if constexpr (F == Format::int4)
      for (int m = 0; m < M; ++m) totals[m] = total(xs[m] + begin, size);
    for (int n = 0; n < N; ++n) {
      const std::uint8_t* at = panel + stride * (n / REGISTERS);
      Register scale, zero;
      if constexpr (F == Format::fp8) {
        float one;
        std::memcpy(&one, at, sizeof one);
        scale = register_splat(one);
      } else {
        scale = register_bf16(at + 2 * REGISTER * (n % REGISTERS));
      }
      if constexpr (F == Format::int4) zero = register_fp16(at + 32 + 2 * REGISTER * (n % REGISTERS));
      for (int m = 0; m < M; ++m) {
        Register sum = s[m][n];
        if constexpr (F == Format::int4) sum = register_fma(register_splat(-totals[m]), zero, sum);
        sums.values[m][n] = register_fma(scale, sum, sums.values[m][n]);
      }
    }
    panel = codes;
  }
  sums.end(out, first, w.rows);
}

template <int M, int P>
inline void tile(const float* const* x, const Panels& w, int first, float* const* out, bool accumulate) {
  switch (w.format) {
    case Format::bf16: return tile_bf16<M, P>(x, w, first, out, accumulate);
    case Format::fp8: return tile_groups<M, P, Format::fp8>(x, w, first, out, accumulate);
    case Format::int8: return tile_groups<M, P, Format::int8>(x, w, first, out, accumulate);
    case Format::int4: return tile_groups<M, P, Format::int4>(x, w, first, out, accumulate);
  }
}

template <int M, int P>
inline void tile(const float* const* x, const FloatPanels& w, int first, float* const* out, bool accumulate) {
  constexpr int N = P * REGISTERS;
  Sums<M, P> sums;
  sums.begin(out, first, w.rows, accumulate);
  Register s[M][N];
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) s[m][n] = sums.values[m][n];
  const float* xs[M];
  for (int m = 0; m < M; ++m) xs[m] = x[m];
  const float* panel = w.data + w.panel_values * static_cast<std::size_t>(first);
  const std::size_t stride = w.panel_values;
  const int cols = w.cols;
  for (int k = 0; k < cols; ++k, panel += 16) {
    Register columns[N];
    for (int n = 0; n < N; ++n)
      columns[n] = register_load(panel + stride * (n / REGISTERS) + REGISTER * (n % REGISTERS));
    for (int m = 0; m < M; ++m) {
      const Register xk = register_splat(xs[m][k]);
      for (int n = 0; n < N; ++n) s[m][n] = register_fma(xk, columns[n], s[m][n]);
    }
  }
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) sums.values[m][n] = s[m][n];
  sums.end(out, first, w.rows);
}

// Panels in groups of P, then what is left one by one, for the same M rows.
template <int M, int P, class Weights>
inline void strip(const float* const* x, const Weights& w, int first, int last, float* const* out, bool accumulate) {
  int p = first;
  for (; p + P <= last; p += P) tile<M, P>(x, w, p, out, accumulate);
  if constexpr (P > 1)
    for (; p < last; ++p) tile<M, 1>(x, w, p, out, accumulate);
}

// num_x <= M rows. As many panels at once as the registers hold, up to PANELS_OF_ONE streams from memory.
template <int M, class Weights>
inline void few_rows(const float* const* x, int num_x, const Weights& w, int first, int last, float* const* out,
                     bool accumulate) {
  constexpr int fitting = ACCUMULATORS / M, P = fitting < PANELS_OF_ONE ? fitting : PANELS_OF_ONE;
  if (num_x == M) return strip<M, P>(x, w, first, last, out, accumulate);
  if constexpr (M > 1) few_rows<M - 1>(x, num_x, w, first, last, out, accumulate);
}

// Rows in blocks of nearly one size. A pair of panels, which the second-level cache keeps, meets all rows before the next.
template <class Weights>
void any_rows(const float* const* x, int num_x, const Weights& w, int first, int last, float* const* out,
              bool accumulate) {
  if (num_x <= ROWS) return few_rows<ROWS>(x, num_x, w, first, last, out, accumulate);
  const int blocks = (num_x + ROWS - 1) / ROWS, size = (num_x + blocks - 1) / blocks;
  for (int group = first; group < last; group += 2) {
    const int end = group + 2 < last ? group + 2 : last;
    for (int m = 0; m < num_x; m += size)
      few_rows<ROWS>(x + m, num_x - m < size ? num_x - m : size, w, group, end, out + m, accumulate);
  }
}

void matmul(const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
            bool accumulate) {
  any_rows(x, num_x, w, first, last, out, accumulate);
}

void matmul_float(const float* const* x, int num_x, const FloatPanels& w, int first, int last, float* const* out,
                  bool accumulate) {
  any_rows(x, num_x, w, first, last, out, accumulate);
}

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

#include "attention_impl.h"

void widen(const std::uint16_t* x, int size, float* out) {
  int i = 0;
  for (; i + 16 <= size; i += 16) store(out + i, load(x + i));
  for (; i < size; ++i) out[i] = value_of(x[i]);
}

// A panel's values, sixteen rows side by side: for the embedding, and for W_UK in expanded attention.
template <Format F>
inline void widen_groups(const Panels& w, const std::uint8_t* panel, float* out) {
  for (int begin = 0; begin < w.cols; begin += w.group) {
    const int size = w.cols - begin < w.group ? w.cols - begin : w.group;
    const std::uint8_t* codes = panel + header_bytes(F);
    for (int r = 0; r < REGISTERS; ++r) {
      Register scale, offset = register_zero();
      if constexpr (F == Format::fp8) {
        float one;
        std::memcpy(&one, panel, sizeof one);
        scale = register_splat(one);
      } else {
        scale = register_bf16(panel + 2 * REGISTER * r);
      }
      if constexpr (F == Format::int4)  // (q - zero) scale: the difference is exact enough to come first
        offset = register_fma(register_fp16(panel + 32 + 2 * REGISTER * r), register_splat(-1.0f), offset);
      for (int k = 0; k < size; ++k) {
        const std::uint8_t* at = codes + (F == Format::int4 ? k / 2 : k) * 16 + REGISTER * r;
        Register code;
        if constexpr (F == Format::fp8) code = register_e4m3(at);
        if constexpr (F == Format::int8) code = register_int8(at);
        if constexpr (F == Format::int4) code = k % 2 ? register_high(at) : register_low(at);
        const Register from_zero = register_fma(code, register_splat(1.0f), offset);
        register_store(out + 16 * (begin + k) + REGISTER * r, register_fma(from_zero, scale, register_zero()));
      }
    }
    panel = codes + value_bytes(F, size);
  }
}

void widen_panel(const Panels& w, int panel, float* out) {
  const std::uint8_t* from = w.data + w.panel_bytes() * static_cast<std::size_t>(panel);
  switch (w.format) {
    case Format::bf16:
      for (int k = 0; k < w.cols; ++k)
        for (int r = 0; r < REGISTERS; ++r) {
          const std::uint8_t* at = from + 64 * (k / 2) + 4 * REGISTER * r;
          register_store(out + 16 * k + REGISTER * r, k % 2 ? register_odd(at) : register_even(at));
        }
      return;
    case Format::fp8: return widen_groups<Format::fp8>(w, from, out);
    case Format::int8: return widen_groups<Format::int8>(w, from, out);
    case Format::int4: return widen_groups<Format::int4>(w, from, out);
  }
}

#define DSV_KERNELS(NAME, SUPPORTED)                                                                             \
  {NAME,     SUPPORTED, matmul,  matmul_float,         rms_norm,        swiglu, dot, scores<std::uint16_t>, scores<float>, \
   softmax,  mix<std::uint16_t>, mix<float>,           widen,           widen_panel}
