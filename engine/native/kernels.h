// The kernels of one instruction set as a table of functions, and what they work on. Knows no threads and no layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "attention_kernels.h"

namespace dsv {

enum class Format : int { bf16 = 0, fp8 = 1, int8 = 2, int4 = 3 };

constexpr bool has_integer_codes(Format format) { return format == Format::int8 || format == Format::int4; }

// A matrix (rows, cols) in panels of 16 rows, one after another. Rows are padded with zeros.
//
// bf16: for each pair of columns (k, k + 1) sixteen pairs (row 16 p + lane, k), (row 16 p + lane, k + 1), an odd last column
// padded with zeros. One 64-byte line is one pair of columns: what AVX2 widens with a shift and a mask, and what AMX's
// products take.
//
// The others: for each group of `group` columns (the last one cut) its scales, then its codes, padded with zeros.
//     fp8   a float scale and 12 bytes of nothing; for each pair of columns sixteen pairs of e4m3 (32 bytes)
//     int8  sixteen bf16 scales; for each four columns sixteen times four signed bytes (a line)
//     int4  sixteen bf16 scales and sixteen fp16 zero points; for each eight columns sixteen 32-bit words (a line), one a
//           row: its bytes hold columns 0 to 3 in their low halves, 4 to 7 in their high ones
// So a shift and a mask give pairs of 16-bit values, (0, 2) and (1, 3) of each four columns, and int8's lines, or the two
// halves of int4's, are what products of bytes take.
struct Panels {
  const std::uint8_t* data = nullptr;
  int rows = 0;
  int cols = 0;
  Format format = Format::bf16;
  int group = 0;

  int num_panels() const { return (rows + 15) / 16; }
  std::size_t panel_bytes() const;
  Panels from_panel(int panel) const {  // the panels from this one on, as a matrix
    Panels rest = *this;
    rest.data += panel_bytes() * static_cast<std::size_t>(panel);
    rest.rows = rows - 16 * panel;
    return rest;
  }
};

constexpr std::size_t header_bytes(Format format) {
  return format == Format::fp8 ? 16 : format == Format::int8 ? 32 : format == Format::int4 ? 64 : 0;
}
constexpr std::size_t value_bytes(Format format, int cols) {  // of sixteen rows
  return format == Format::bf16   ? static_cast<std::size_t>(cols + 1) / 2 * 64
         : format == Format::fp8  ? static_cast<std::size_t>(cols + 1) / 2 * 32
         : format == Format::int8 ? static_cast<std::size_t>(cols + 3) / 4 * 64
                                  : static_cast<std::size_t>(cols + 7) / 8 * 64;
}
inline std::size_t Panels::panel_bytes() const {
  if (format == Format::bf16) return value_bytes(format, cols);
  const int whole = cols / group, rest = cols % group;
  return static_cast<std::size_t>(whole) * (header_bytes(format) + value_bytes(format, group)) +
         (rest ? header_bytes(format) + value_bytes(format, rest) : 0);
}

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

  // Rows of x in the form in which products of `num_x` rows with w's format, group and columns take them, one after
  // another, `prepared_bytes` each, with room for num_x rounded up to a multiple of 16. Zero bytes: as they are, float32.
  //
  // int8 and int4: x as 16-bit integers, the largest of each group of columns being 32767 (less where codes times that
  // would pass 2^31 in a group). Products with the codes are then exact in 32-bit sums, and |error of x| is at most half a
  // step, 1.6e-5 of its group's largest value. A group with a number that is none gets a scale that is none.
  // `rest`, where it is not null: what the integers leave of each x, for a second row of them.
  std::size_t (*prepared_bytes)(int num_x, const Panels& w);
  void (*prepare)(const float* x, int num_x, const Panels& w, std::uint8_t* row, float* rest);

  // out[m][16 p + lane] (+)= sum over k ascending of x[m][k] w[16 p + lane][k], panels [first, last).
  // Every sum runs over k in the same order, whatever the number of rows: a row's result does not depend on the others.
  // `x` and `out` are one pointer a row; `out` gets values only for rows of the matrix that exist.
  void (*matmul)(const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
                 bool accumulate);
  // The same of prepared rows, where `prepared_bytes` is not zero.
  void (*matmul_prepared)(const std::uint8_t* x, int num_x, const Panels& w, int first, int last, float* const* out,
                          bool accumulate);
  void (*matmul_float)(const float* const* x, int num_x, const FloatPanels& w, int first, int last,
                       float* const* out, bool accumulate);

  // out = weight * x / sqrt(mean(x^2) + eps)
  void (*rms_norm)(const float* x, const float* weight, float eps, int size, float* out);
  // gate = silu(gate) * up * scale
  void (*swiglu)(float* gate, const float* up, float scale, int size);
  float (*dot)(const float* x, const float* y, int size);
  AttentionKernels attention;
  // out[i] = x[i] as float32
  void (*widen)(const std::uint16_t* x, int size, float* out);
  // out[16 k + lane] = value of column k of row 16 panel + lane, in float32
  void (*widen_panel)(const Panels& w, int panel, float* out);
};

extern const Kernels scalar_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avxvnni_kernels;  // where the compiler knows it, like amx_kernels
extern const Kernels avx512_kernels;
extern const Kernels avx512vnni_kernels;
extern const Kernels amx_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

// The tables that this processor runs, best first.
std::vector<const Kernels*> supported_kernels();

// The best of them, or the one that DSV3CHAT_ISA names: the variable may only lower the choice. Decided once.
// Throws std::invalid_argument for a name that is not known or that the processor cannot run.
const Kernels& chosen_kernels();

// The table to take for float32's precision: tiles round x to two bf16, so the next best one where `kernels` has them.
const Kernels& exact_kernels(const Kernels& kernels);

// The one of this name; throws likewise.
const Kernels& kernels_named(const std::string& name);

}  // namespace dsv
