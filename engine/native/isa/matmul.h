// The products as the table has them, where the processor has no tiles. Included by an instruction set's file, inside its
// anonymous namespace, after integer_products.h.

std::size_t prepared_bytes(int, const Panels& w) { return has_integer_codes(w.format) ? IntegerRow(w).bytes() : 0; }

void prepare(const float* x, int, const Panels& w, std::uint8_t* row, float* rest) { prepare_integers(x, w, row, rest); }

void matmul_prepared(const std::uint8_t* x, int num_x, const Panels& w, int first, int last, float* const* out,
                     bool accumulate) {
  const std::size_t stride = IntegerRow(w).bytes();
  if (w.format == Format::int4)
    any_rows(ProductIntegers<Format::int4>{x, stride, w}, num_x, first, last, out, accumulate);
  else
    any_rows(ProductIntegers<Format::int8>{x, stride, w}, num_x, first, last, out, accumulate);
}

void matmul(const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
            bool accumulate) {
  if (w.format == Format::bf16) return any_rows(ProductBf16{x, w}, num_x, first, last, out, accumulate);
  if (w.format == Format::fp8) return any_rows(ProductFp8{x, w}, num_x, first, last, out, accumulate);
  std::vector<std::uint8_t> rows(IntegerRow(w).bytes() * static_cast<std::size_t>(num_x));
  for (int m = 0; m < num_x; ++m) 
    prepare_integers(x[m], w, rows.data() + IntegerRow(w).bytes() * static_cast<std::size_t>(m), nullptr);
  matmul_prepared(rows.data(), num_x, w, first, last, out, accumulate);
}
