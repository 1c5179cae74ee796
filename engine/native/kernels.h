// The kernels of one instruction set as a table of functions, and what they work on. Knows no threads and no layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dsv {

// A bf16 matrix (rows, cols) in panels of 16 rows: panel p holds, for each pair of columns (k, k + 1), sixteen pairs
// (row 16 p + lane, k), (row 16 p + lane, k + 1). Rows and an odd last column are padded with zeros. One 64-byte line
// is one pair of columns of one panel: what AVX2 widens with a shift and a mask, and what bf16 and AMX products take.
struct Panels {
  const std::uint16_t* data = nullptr;
  int rows = 0;
  int cols = 0;

  int num_panels() const { return (rows + 15) / 16; }
  std::size_t panel_values() const { return static_cast<std::size_t>(cols + 1) / 2 * 32; }
};

// The same with float32 values, one line of 16 rows for each column: keys and values of expanded attention.
struct FloatPanels {
  const float* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::size_t panel_values = 0;  // from one panel to the next: at least 16 * cols
};

struct Kernels {
  const char* name;
  bool (*supported)();

  // out[m][16 p + lane] (+)= sum over k ascending of x[m][k] w[16 p + lane][k], panels [first, last), in float32.
  // Every sum runs over k in the same order, whatever the number of rows: a row's result does not depend on the others.
  // `x` and `out` are one pointer a row; `out` gets values only for rows of the matrix that exist.
  void (*matmul)(const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
                 bool accumulate);
  void (*matmul_float)(const float* const* x, int num_x, const FloatPanels& w, int first, int last,
                       float* const* out, bool accumulate);

  // out = weight * x / sqrt(mean(x^2) + eps)
  void (*rms_norm)(const float* x, const float* weight, float eps, int size, float* out);
  // gate = silu(gate) * up * scale
  void (*swiglu)(float* gate, const float* up, float scale, int size);
  float (*dot)(const float* x, const float* y, int size);
  // out[h][l] = scale * q[h] . key(l) for keys [first, last) and every head; keys: one pointer a token
  void (*scores_bf16)(const float* const* q, int num_heads, int size, const std::uint16_t* const* keys, int first,
                      int last, float scale, float* const* out);
  void (*scores_float)(const float* const* q, int num_heads, int size, const float* const* keys, int first, int last,
                       float scale, float* const* out);
  // values become exp(value - largest) / their sum
  void (*softmax)(float* values, int size);
  // out[h][d] = sum over l ascending of p[h][l] key(l)[d] for dimensions [first, last) and every head
  void (*mix_bf16)(const float* const* p, int num_heads, const std::uint16_t* const* keys, int num_keys, int first,
                   int last, float* const* out);
  void (*mix_float)(const float* const* p, int num_heads, const float* const* keys, int num_keys, int first, int last,
                    float* const* out);
  // out[i] = x[i] as float32
  void (*widen)(const std::uint16_t* x, int size, float* out);
};

extern const Kernels scalar_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

// The tables that this processor runs, best first.
std::vector<const Kernels*> supported_kernels();

// The best of them, or the one that DSV3CHAT_ISA names: the variable may only lower the choice. Decided once.
// Throws std::invalid_argument for a name that is not known or that the processor cannot run.
const Kernels& chosen_kernels();

// The one of this name; throws likewise.
const Kernels& kernels_named(const std::string& name);

}  // namespace dsv
