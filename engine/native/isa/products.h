// Products of float32 rows with panels of bf16, fp8 and float32, and how any product goes through rows and panels.
// Included by each instruction set's file, inside its anonymous namespace, after lanes.h; ROWS, ACCUMULATORS and
// PANELS_OF_ONE say what its registers hold.

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

// sums += column (of N registers) times x[m][k], for every row m
template <int M, int N>
inline void add_column(Register (&sums)[M][N], const Register (&column)[N], const float* const (&x)[M], int k) {
  for (int m = 0; m < M; ++m) {
    const Register xk = register_splat(x[m][k]);
    for (int n = 0; n < N; ++n) sums[m][n] = register_fma(xk, column[n], sums[m][n]);
  }
}

struct ProductBf16 {
  const float* const* x;
  const Panels& w;
  static constexpr int panels_of_one = PANELS_OF_ONE;

  template <int M, int P>
  inline void tile(int row, int first, float* const* out, bool accumulate) const {
    constexpr int N = P * REGISTERS;
    Sums<M, P> sums;
    sums.begin(out, first, w.rows, accumulate);
    Register s[M][N];
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) s[m][n] = sums.values[m][n];
    const float* xs[M];
    for (int m = 0; m < M; ++m) xs[m] = x[row + m];
    const std::uint8_t* panel = w.data + w.panel_bytes() * static_cast<std::size_t>(first);
    const std::size_t stride = w.panel_bytes();
    const int cols = w.cols;
    for (int k = 0; k < cols; k += 2, panel += 64) {
      Register column[N];
      for (int n = 0; n < N; ++n)
        column[n] = register_even(panel + stride * (n / REGISTERS) + 4 * REGISTER * (n % REGISTERS));
      add_column<M, N>(s, column, xs, k);
      if (k + 1 == cols) break;
      for (int n = 0; n < N; ++n)
        column[n] = register_odd(panel + stride * (n / REGISTERS) + 4 * REGISTER * (n % REGISTERS));
      add_column<M, N>(s, column, xs, k + 1);
    }
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) sums.values[m][n] = s[m][n];
    sums.end(out, first, w.rows);
  }
};

// The codes of a group meet x as float32, and their sums meet the scale once a group. The sums over groups wait in memory
// meanwhile.
struct ProductFp8 {
  const float* const* x;
  const Panels& w;
  static constexpr int panels_of_one = PANELS_OF_ONE;

  template <int M, int P>
  inline void tile(int row, int first, float* const* out, bool accumulate) const {
    constexpr int N = P * REGISTERS;
    Sums<M, P> sums;
    sums.begin(out, first, w.rows, accumulate);
    const float* xs[M];
    for (int m = 0; m < M; ++m) xs[m] = x[row + m];
    const std::size_t stride = w.panel_bytes();
    const std::uint8_t* panel = w.data + stride * static_cast<std::size_t>(first);
    for (int begin = 0; begin < w.cols; begin += w.group) {
      const int end = w.cols - begin < w.group ? w.cols : begin + w.group;
      Register s[M][N];
      for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n) s[m][n] = register_zero();
      const std::uint8_t* codes = panel + header_bytes(Format::fp8);
      for (int k = begin; k < end; k += 2, codes += 32) {
        Register column[N];
        for (int n = 0; n < N; ++n)
          column[n] = register_e4m3<false>(codes + stride * (n / REGISTERS) + 2 * REGISTER * (n % REGISTERS));
        add_column<M, N>(s, column, xs, k);
        for (int n = 0; n < N; ++n)
          column[n] = register_e4m3<true>(codes + stride * (n / REGISTERS) + 2 * REGISTER * (n % REGISTERS));
        if (k + 1 < end) add_column<M, N>(s, column, xs, k + 1);
      }
      for (int n = 0; n < N; ++n) {
        float one;
        std::memcpy(&one, panel + stride * (n / REGISTERS), sizeof one);
        const Register scale = register_splat(one);
        for (int m = 0; m < M; ++m) sums.values[m][n] = register_fma(scale, s[m][n], sums.values[m][n]);
      }
      panel = codes;
    }
    sums.end(out, first, w.rows);
  }
};

struct ProductFloat {
  const float* const* x;
  const FloatPanels& w;
  static constexpr int panels_of_one = PANELS_OF_ONE;

  template <int M, int P>
  inline void tile(int row, int first, float* const* out, bool accumulate) const {
    constexpr int N = P * REGISTERS;
    Sums<M, P> sums;
    sums.begin(out, first, w.rows, accumulate);
    Register s[M][N];
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) s[m][n] = sums.values[m][n];
    const float* xs[M];
    for (int m = 0; m < M; ++m) xs[m] = x[row + m];
    const float* panel = w.data + w.panel_values * static_cast<std::size_t>(first);
    const std::size_t stride = w.panel_values;
    const int cols = w.cols;
    for (int k = 0; k < cols; ++k, panel += 16) {
      Register column[N];
      for (int n = 0; n < N; ++n)
        column[n] = register_load(panel + stride * (n / REGISTERS) + REGISTER * (n % REGISTERS));
      add_column<M, N>(s, column, xs, k);
    }
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) sums.values[m][n] = s[m][n];
    sums.end(out, first, w.rows);
  }
};

// Panels in groups of P, then what is left one by one, for the same M rows.
template <int M, int P, class Product>
inline void strip(const Product& product, int row, int first, int last, float* const* out, bool accumulate) {
  int p = first;
  for (; p + P <= last; p += P) product.template tile<M, P>(row, p, out, accumulate);
  if constexpr (P > 1)
    for (; p < last; ++p) product.template tile<M, 1>(row, p, out, accumulate);
}

// count <= M rows. As many panels at once as the registers hold, up to the streams from memory that the product wants.
template <int M, class Product>
inline void few_rows(const Product& product, int row, int count, int first, int last, float* const* out,
                     bool accumulate) {
  constexpr int fitting = ACCUMULATORS / M, P = fitting < Product::panels_of_one ? fitting : Product::panels_of_one;
  if (count == M) return strip<M, P>(product, row, first, last, out, accumulate);
  if constexpr (M > 1) few_rows<M - 1>(product, row, count, first, last, out, accumulate);
}

// Rows in blocks of nearly one size. A pair of panels, which the second-level cache keeps, meets all rows before the next.
template <class Product>
void any_rows(const Product& product, int num_x, int first, int last, float* const* out, bool accumulate) {
  if (num_x <= ROWS) return few_rows<ROWS>(product, 0, num_x, first, last, out, accumulate);
  const int blocks = (num_x + ROWS - 1) / ROWS, size = (num_x + blocks - 1) / blocks;
  for (int group = first; group < last; group += 2) {
    const int end = group + 2 < last ? group + 2 : last;
    for (int m = 0; m < num_x; m += size)
      few_rows<ROWS>(product, m, num_x - m < size ? num_x - m : size, group, end, out + m, accumulate);
  }
}

void matmul_float(const float* const* x, int num_x, const FloatPanels& w, int first, int last, float* const* out,
                  bool accumulate) {
  any_rows(ProductFloat{x, w}, num_x, first, last, out, accumulate);
}
