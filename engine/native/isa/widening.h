// A panel's values as float32, sixteen rows side by side: for the embedding, and for W_UK in expanded attention. Included
// by each instruction set's file, inside its anonymous namespace, after integers.h.

// value of column `k` of a group: codes at `codes`, register `r` of the sixteen rows, before zero point and scale
template <Format F>
inline Register widened(const std::uint8_t* codes, int k, int r) {
  if constexpr (F == Format::fp8) {
    const std::uint8_t* at = codes + 32 * (k / 2) + 2 * REGISTER * r;
    return k % 2 ? register_e4m3<true>(at) : register_e4m3<false>(at);
  } else {
    return integers_float(code_of<F>(integers_load(codes + 64 * (k / WORD<F>) + 4 * REGISTER * r), k % WORD<F>));
  }
}

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
        const Register from_zero = register_fma(widened<F>(codes, k, r), register_splat(1.0f), offset);
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
