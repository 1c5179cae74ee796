// From a matrix in rows, as checkpoints and converters have it, to the panels that kernels read. Knows no kernel.
#pragma once

#include "layer.h"

namespace dsv {

// codes: bf16 (rows, cols); e4m3 or int8 (rows, cols) bytes; int4 (rows, ceil(cols / 2)) bytes, even columns low.
// scale: int8 and int4 bf16 (rows, groups); fp8 float (ceil(rows / block_rows), groups), block_rows a multiple of 16.
// zero: int4 fp16 (rows, groups).
struct Rows {
  const std::uint8_t* codes = nullptr;
  const std::uint8_t* scale = nullptr;
  const std::uint8_t* zero = nullptr;
  int rows = 0, cols = 0;
  Format format = Format::bf16;
  int group = 0;
  int block_rows = 0;
};

// Rows [first, first + shape.rows) of `from` into shape.data, of shape.panel_bytes() * shape.num_panels() bytes.
void pack(const Rows& from, int first, const Panels& shape, std::uint8_t* to);

// kv_b (heads * (nope + v), rank) into `shape`'s form, head after head.
void pack_heads(const Rows& from, int heads, const HeadPanels& shape, std::uint8_t* to);

}  // namespace dsv
