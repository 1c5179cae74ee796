// Products through AMX's tiles: sixteen rows of x times sixteen lanes of a panel an instruction. Included by amx.cpp inside
// its anonymous namespace, after integer_products.h.
//
// int8 and int4: x's 16-bit codes c are 256 h + l, two bytes, so the sums are those of the other kernels, bit by bit:
//     sum_k c q = 256 sum_k h q + sum_k l q
// bf16 and fp8: x is the sum of two bf16 (hi, and what is left of x rounded again; the error is at most 2^-17 of x), and
// each step of 32 columns adds hi's products, then lo's. So few rows go the same way, and a row's result does not depend
// on the others here either.
//
// Rows come in slabs that the second-level cache keeps, panels in pairs, columns in blocks whose widened codes the first
// level keeps; each block of weights meets all rows of the slab.

constexpr int TILE = 16;             // rows of x, lanes, and lines of weights
constexpr int SLAB_BYTES = 1 << 20;  // of prepared rows
constexpr int BLOCK_BF16 = 512;      // columns of bf16 that meet a slab at once
#if !defined(DSV_TILES_FROM)
#define DSV_TILES_FROM 6  // rows from which tiles beat products of pairs, for integer codes
#endif

// Tiles 0 to 3 hold sums, 4 and 5 rows of x, 6 and 7 weights. The calling thread's, while this lives.
class TileShapes {
 public:
  explicit TileShapes(int num_x) {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes[16] = {};
      std::uint8_t rows[16] = {};
    } shapes;
    for (int tile = 0; tile < 8; ++tile) {
      shapes.bytes[tile] = 64;
      shapes.rows[tile] = static_cast<std::uint8_t>(tile < 6 && num_x < TILE ? num_x : TILE);
    }
    _tile_loadconfig(&shapes);
  }
  ~TileShapes() { _tile_release(); }
  TileShapes(const TileShapes&) = delete;
  TileShapes& operator=(const TileShapes&) = delete;
};

inline void written() { asm volatile("" ::: "memory"); }  // tile loads are opaque: what they read is stored before them

// A row prepared for tiles: for each block of columns (a group, or all where there are none) its first bytes or hi parts,
// padded to 64 bytes of zeros; then likewise its second ones; then, for integers, a scale each and the sum of codes each.
struct TileRow {
  bool integers;
  int cols, group, groups;
  std::size_t block_bytes;  // of one block and part

  explicit TileRow(const Panels& w)
      : integers(has_integer_codes(w.format)), cols(w.cols), group(w.group > 0 ? w.group : w.cols),
        groups((cols + group - 1) / group),
        block_bytes((static_cast<std::size_t>(group) * (integers ? 1 : 2) + 63) / 64 * 64) {}
  std::size_t part_bytes() const { return block_bytes * static_cast<std::size_t>(groups); }
  std::size_t bytes() const {  // an odd number of lines: sixteen rows of a tile share no set of the first-level cache
    const std::size_t scales = integers ? 2 * sizeof(float) * static_cast<std::size_t>(groups) : 0;
    return 2 * part_bytes() + scales / 64 * 64 + ((2 * part_bytes() + scales / 64 * 64) % 128 == 0 ? 64 : 128);
  }
  int size(int g) const { return g + 1 < groups ? group : cols - g * group; }
  float* scales(std::uint8_t* row) const { return reinterpret_cast<float*>(row + 2 * part_bytes()); }
  const float* scales(const std::uint8_t* row) const { return reinterpret_cast<const float*>(row + 2 * part_bytes()); }
};

void prepare_tile_integers(const float* x, const Panels& w, std::uint8_t* out, float* rest) {
  const TileRow row(w);
  const float most = levels(w);
  std::memset(out, 0, 2 * row.part_bytes());
  for (int g = 0; g < row.groups; ++g) {
    const float* from = x + static_cast<std::size_t>(g) * row.group;
    const int size = row.size(g);
    const Step16 step = step_of(from, size, most);
    if (rest != nullptr) leave(from, size, step, rest + static_cast<std::size_t>(g) * row.group);
    std::uint8_t* high = out + row.block_bytes * static_cast<std::size_t>(g);
    std::uint8_t* low = high + row.part_bytes();
    __m512i total = _mm512_setzero_si512();
    for (int i = 0; i < size && step.inverse != 0.0f; i += 16) {
      const __m512i code = _mm512_cvtps_epi32(mul(get(from + i, size - i), splat(step.inverse)).v);
      total = _mm512_add_epi32(total, code);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(high + i), _mm512_cvtepi32_epi8(_mm512_srai_epi32(code, 8)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(low + i), _mm512_cvtepi32_epi8(code));
    }
    row.scales(out)[g] = step.step;
    row.scales(out)[row.groups + g] = static_cast<float>(_mm512_reduce_add_epi32(total));
  }
}

void prepare_tile_halves(const float* x, const Panels& w, std::uint8_t* out) {
  const TileRow row(w);
  std::memset(out, 0, 2 * row.part_bytes());
  for (int g = 0; g < row.groups; ++g) {
    const float* from = x + static_cast<std::size_t>(g) * row.group;
    const int size = row.size(g);
    std::uint8_t* high = out + row.block_bytes * static_cast<std::size_t>(g);
    std::uint8_t* low = high + row.part_bytes();
    for (int i = 0; i < size; i += 16) {
      const Lanes value = get(from + i, size - i);
      const __m256i hi = rounded_bf16(value);
      const Lanes rest = sub(value, {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(hi), 16))});
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(high + 2 * i), hi);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(low + 2 * i), rounded_bf16(rest));
    }
  }
}

// Lines of sixteen lanes, four bytes each, of `size` columns of a group, in whole tiles; zeros behind the last column.
template <Format F>
inline void widen_bytes(const std::uint8_t* codes, int size, std::uint8_t* lines) {
  std::uint8_t* const end = lines + static_cast<std::size_t>((size + 63) / 64) * 1024;
  for (int k = 0; k < size; k += WORD<F>, codes += 64) {
    const __m512i word = _mm512_loadu_si512(codes);
    if constexpr (F == Format::int4) {
      const __m512i mask = _mm512_set1_epi8(15);
      _mm512_storeu_si512(lines, _mm512_and_si512(word, mask));
      _mm512_storeu_si512(lines + 64, _mm512_and_si512(_mm512_srli_epi16(word, 4), mask));
      lines += 128;
    } else {
      _mm512_storeu_si512(lines, word);
      lines += 64;
    }
  }
  for (; lines < end; lines += 64) _mm512_storeu_si512(lines, _mm512_setzero_si512());
}

// Lines of sixteen lanes, two bf16 each, of `size` columns, in whole tiles.
template <Format F>
inline void widen_halves(const std::uint8_t* codes, int size, std::uint8_t* lines) {
  std::uint8_t* const end = lines + static_cast<std::size_t>((size + 31) / 32) * 1024;
  for (int k = 0; k < size; k += 2, lines += 64) {
    if constexpr (F == Format::fp8) {  // e4m3 has fewer digits than bf16: the lower halves of its floats are zero
      const __m512i even = _mm512_castps_si512(register_e4m3<false>(codes));
      _mm512_storeu_si512(
          lines, _mm512_or_si512(_mm512_srli_epi32(even, 16), _mm512_castps_si512(register_e4m3<true>(codes))));
      codes += 32;
    } else {
      _mm512_storeu_si512(lines, _mm512_loadu_si512(codes));
      codes += 64;
    }
  }
  for (; lines < end; lines += 64) _mm512_storeu_si512(lines, _mm512_setzero_si512());
}

// One thread's room: widened weights of a pair of panels, and the sums of a slab.
struct TileScratch {
  std::vector<std::uint8_t> weights;
  std::vector<float> sums;

  std::uint8_t* lines(std::size_t bytes) {
    if (weights.size() < bytes + 64) weights.resize(bytes + 64);
    return weights.data() + (64 - reinterpret_cast<std::uintptr_t>(weights.data()) % 64) % 64;
  }
  float* slab(int rows) {  // (blocks of sixteen rows, two panels, 16, 16)
    const std::size_t values = static_cast<std::size_t>(rows + TILE) * 2 * TILE;
    if (sums.size() < values + 16) sums.resize(values + 16);
    return sums.data() + (64 - reinterpret_cast<std::uintptr_t>(sums.data()) % 64) % 64 / sizeof(float);
  }
};

inline float* sums_of(float* sums, int row, int panel) { return sums + 512 * (row / TILE) + 256 * panel + 16 * (row % TILE); }

// Sums of one group: sixteen rows at `high` and `low`, P panels; out[2 p] of high bytes, out[2 p + 1] of low ones.
template <int P>
inline void byte_tiles(const std::uint8_t* high, const std::uint8_t* low, std::size_t stride, const std::uint8_t* lines,
                       std::size_t panel_bytes, int steps, std::int32_t (*out)[256]) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (P > 1) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int step = 0; step < steps; ++step, lines += 1024, high += 64, low += 64) {
    _tile_loadd(4, high, stride);
    _tile_loadd(5, low, stride);
    _tile_loadd(6, lines, 64);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbusd(1, 5, 6);
    if constexpr (P > 1) {
      _tile_loadd(7, lines + panel_bytes, 64);
      _tile_dpbssd(2, 4, 7);
      _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, out[0], 64);
  _tile_stored(1, out[1], 64);
  if constexpr (P > 1) {
    _tile_stored(2, out[2], 64);
    _tile_stored(3, out[3], 64);
  }
}

// totals += a group's sums of `count` rows from `first` on, scaled
template <Format F, int P>
inline void add_group(const TileRow& row, const std::uint8_t* x, int g, int first, int count, const std::uint8_t* header,
                      std::size_t panel_stride, const std::int32_t (*products)[256], float* totals) {
  Register scale[P], zero_point[P];
  for (int p = 0; p < P; ++p) {
    scale[p] = register_bf16(header + panel_stride * p);
    zero_point[p] = F == Format::int4 ? register_fp16(header + panel_stride * p + 32) : register_zero();
  }
  for (int m = 0; m < count; ++m) {
    const float* scales = row.scales(x + row.bytes() * static_cast<std::size_t>(first + m)) + g;
    for (int p = 0; p < P; ++p) {
      const __m512i high = _mm512_load_si512(&products[2 * p][16 * m]);
      const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(high, 8), _mm512_load_si512(&products[2 * p + 1][16 * m]));
      float* to = sums_of(totals, first + m, p);
      register_store(to, scaled<F>(integers_float(sum), zero_point[p], scales[row.groups], scale[p], scales[0],
                                   register_load(to)));
    }
  }
}

// Each block's tiles are computed while the sums of the one before are scaled, and a group is widened one ahead: neither
// waits for stores that are still on their way to the cache.
template <Format F, int P>
inline void pair_of_integers(const std::uint8_t* x, int num_x, const Panels& w, const std::uint8_t* panel,
                             TileScratch& scratch, float* totals) {
  const TileRow row(w);
  const std::size_t stride = row.bytes(), panel_stride = w.panel_bytes(), panel_lines = row.block_bytes * 16;
  const std::size_t group_bytes = header_bytes(F) + value_bytes(F, row.group);
  std::uint8_t* const room = scratch.lines(4 * panel_lines);
  const auto header = [&](int g) { return panel + group_bytes * static_cast<std::size_t>(g); };
  const auto lines = [&](int g) { return room + 2 * panel_lines * static_cast<std::size_t>(g % 2); };
  const auto widen = [&](int g) {
    for (int p = 0; p < P; ++p)
      widen_bytes<F>(header(g) + panel_stride * p + header_bytes(F), row.size(g), lines(g) + panel_lines * p);
    written();
  };
  alignas(64) std::int32_t products[2][4][256];
  int before_g = 0, before = -1, turn = 0;
  const auto finish = [&](int buffer) {
    const int count = num_x - before < TILE ? num_x - before : TILE;
    add_group<F, P>(row, x, before_g, before, count, header(before_g), panel_stride, products[buffer], totals);
  };
  widen(0);
  for (int g = 0; g < row.groups; ++g)
    for (int first = 0; first < num_x; first += TILE, turn ^= 1) {
      const std::uint8_t* high = x + stride * static_cast<std::size_t>(first) + row.block_bytes * static_cast<std::size_t>(g);
      byte_tiles<P>(high, high + row.part_bytes(), stride, lines(g), panel_lines, (row.size(g) + 63) / 64, products[turn]);
      if (first == 0 && g + 1 < row.groups) widen(g + 1);
      if (before >= 0) finish(turn ^ 1);
      before_g = g;
      before = first;
    }
  finish(turn ^ 1);
}

// R blocks of sixteen rows, P panels, `steps` of 32 columns. Sums come from `from` (zero: they begin) and go to `to`, a
// tile each: (R, P) of 1 kB at 2 kB a block of rows. `FromMemory`: where few rows wait for the weights themselves.
template <int R, int P, bool FromMemory>
inline void half_tiles(const std::uint8_t* high, std::size_t part, std::size_t stride, const std::uint8_t* const* lines,
                       int steps, const float* from, float* to) {
  if (from != nullptr) {
    _tile_loadd(0, from, 64);
    if constexpr (P > 1) _tile_loadd(1, from + 256, 64);
    if constexpr (R > 1) _tile_loadd(2, from + 512, 64);
    if constexpr (R > 1 && P > 1) _tile_loadd(3, from + 768, 64);
  } else {
    _tile_zero(0);
    if constexpr (P > 1) _tile_zero(1);
    if constexpr (R > 1) _tile_zero(2);
    if constexpr (R > 1 && P > 1) _tile_zero(3);
  }
  const std::uint8_t* low = high + part;
  const std::uint8_t *one = lines[0], *two = lines[P - 1];
  for (int step = 0; step < steps; ++step, one += 1024, two += 1024, high += 64, low += 64) {
    if constexpr (R == 1 && FromMemory)
      for (int line = 0; line < 1024; line += 64) {
        __builtin_prefetch(one + PREFETCH + line);
        if constexpr (P > 1) __builtin_prefetch(two + PREFETCH + line);
      }
    _tile_loadd(6, one, 64);
    if constexpr (P > 1) _tile_loadd(7, two, 64);
    _tile_loadd(4, high, stride);
    if constexpr (R > 1) _tile_loadd(5, high + 16 * stride, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (P > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (R > 1) _tile_dpbf16ps(2, 5, 6);
    if constexpr (R > 1 && P > 1) _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(4, low, stride);
    if constexpr (R > 1) _tile_loadd(5, low + 16 * stride, stride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (P > 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (R > 1) _tile_dpbf16ps(2, 5, 6);
    if constexpr (R > 1 && P > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, to, 64);
  if constexpr (P > 1) _tile_stored(1, to + 256, 64);
  if constexpr (R > 1) _tile_stored(2, to + 512, 64);
  if constexpr (R > 1 && P > 1) _tile_stored(3, to + 768, 64);
}

template <int R, int P>
inline void half_block(const std::uint8_t* x, const TileRow& row, std::size_t block, int first, int num_x,
                       const std::uint8_t* const* lines, int steps, const float* scales, float* sums) {
  const std::size_t stride = row.bytes();
  const std::uint8_t* high = x + stride * static_cast<std::size_t>(first) + block;
  float* to = sums_of(sums, first, 0);
  if (scales == nullptr) return half_tiles<R, P, true>(high, row.part_bytes(), stride, lines, steps, to, to);
  alignas(64) float products[1024];
  half_tiles<R, P, false>(high, row.part_bytes(), stride, lines, steps, nullptr, products);
  for (int r = 0; r < R; ++r)
    for (int p = 0; p < P; ++p)
      for (int m = 0; m < TILE && first + TILE * r + m < num_x; ++m) {  // a tile of fewer rows stores no others
        const int i = 512 * r + 256 * p + 16 * m;
        register_store(to + i, register_fma(register_splat(scales[p]), register_load(products + i), register_load(to + i)));
      }
}

template <Format F, int P>
inline void pair_of_halves(const std::uint8_t* x, int num_x, const Panels& w, const std::uint8_t* panel,
                           TileScratch& scratch, float* sums) {
  const TileRow row(w);
  const std::size_t panel_stride = w.panel_bytes();
  const int width = F == Format::fp8 ? row.group : BLOCK_BF16;
  const std::size_t panel_lines = static_cast<std::size_t>((width + 31) / 32) * 1024;
  std::uint8_t* room = scratch.lines(2 * panel_lines);
  for (int begin = 0; begin < row.cols; begin += width) {
    const int size = row.cols - begin < width ? row.cols - begin : width;
    const std::uint8_t* lines[P];
    float scales[P] = {};
    for (int p = 0; p < P; ++p) {
      const std::uint8_t* from = panel + panel_stride * p;
      if constexpr (F == Format::fp8) std::memcpy(&scales[p], from, sizeof(float));
      lines[p] = from;
      if (F == Format::fp8 || size % 32 != 0) {
        widen_halves<F>(from + header_bytes(F), size, room + panel_lines * p);
        lines[p] = room + panel_lines * p;
      }
    }
    written();
    const std::size_t block =
        F == Format::fp8 ? row.block_bytes * static_cast<std::size_t>(begin / width) : sizeof(std::uint16_t) * begin;
    const int steps = (size + 31) / 32;
    const float* factors = F == Format::fp8 ? scales : nullptr;
    int first = 0;
    for (; first + TILE < num_x; first += 2 * TILE) half_block<2, P>(x, row, block, first, num_x, lines, steps, factors, sums);
    if (first < num_x) half_block<1, P>(x, row, block, first, num_x, lines, steps, factors, sums);
    written();
    panel += header_bytes(F) + value_bytes(F, size);
  }
}

template <Format F, int P>
inline void pair_of_panels(const std::uint8_t* x, int num_x, const Panels& w, int first, float* const* out,
                           bool accumulate, TileScratch& scratch) {
  float* sums = scratch.slab(num_x + TILE);
  std::memset(sums, 0, sizeof(float) * 512 * static_cast<std::size_t>((num_x + 2 * TILE - 1) / (2 * TILE) * 2));
  if (accumulate)
    for (int m = 0; m < num_x; ++m)
      for (int p = 0; p < P; ++p)
        store(sums_of(sums, m, p), get(out[m] + 16 * (first + p), w.rows - 16 * (first + p)));
  const std::uint8_t* panel = w.data + w.panel_bytes() * static_cast<std::size_t>(first);
  if constexpr (F == Format::int8 || F == Format::int4)
    pair_of_integers<F, P>(x, num_x, w, panel, scratch, sums);
  else
    pair_of_halves<F, P>(x, num_x, w, panel, scratch, sums);
  for (int m = 0; m < num_x; ++m)
    for (int p = 0; p < P; ++p)
      put(out[m] + 16 * (first + p), load(sums_of(sums, m, p)), w.rows - 16 * (first + p));
}

template <Format F>
void multiply_tiles(const std::uint8_t* x, int num_x, const Panels& w, int first, int last, float* const* out,
                    bool accumulate) {
  static thread_local TileScratch scratch;
  const TileShapes shapes(num_x);
  const std::size_t stride = TileRow(w).bytes();
  const int fitting = static_cast<int>(SLAB_BYTES / stride) / (2 * TILE) * (2 * TILE);
  const int slab = fitting < 2 * TILE ? 2 * TILE : fitting > 512 ? 512 : fitting;
  for (int m = 0; m < num_x; m += slab) {
    const int count = num_x - m < slab ? num_x - m : slab;
    const std::uint8_t* rows = x + stride * static_cast<std::size_t>(m);
    int p = first;
    for (; p + 2 <= last; p += 2) pair_of_panels<F, 2>(rows, count, w, p, out + m, accumulate, scratch);
    if (p < last) pair_of_panels<F, 1>(rows, count, w, p, out + m, accumulate, scratch);
  }
}

// The products as the table has them. Few rows of integer codes go through pairs, which gives the same numbers.

inline bool through_tiles(int num_x, const Panels& w) { return !has_integer_codes(w.format) || num_x >= DSV_TILES_FROM; }

std::size_t tile_prepared_bytes(int num_x, const Panels& w) {
  return through_tiles(num_x, w) ? TileRow(w).bytes() : prepared_bytes(num_x, w);
}

void tile_prepare(const float* x, int num_x, const Panels& w, std::uint8_t* row, float* rest) {
  if (!has_integer_codes(w.format)) return prepare_tile_halves(x, w, row);
  return through_tiles(num_x, w) ? prepare_tile_integers(x, w, row, rest) : prepare_integers(x, w, row, rest);
}

void tile_matmul_prepared(const std::uint8_t* x, int num_x, const Panels& w, int first, int last, float* const* out,
                          bool accumulate) {
  if (!through_tiles(num_x, w)) return matmul_prepared(x, num_x, w, first, last, out, accumulate);
  switch (w.format) {
    case Format::bf16: return multiply_tiles<Format::bf16>(x, num_x, w, first, last, out, accumulate);
    case Format::fp8: return multiply_tiles<Format::fp8>(x, num_x, w, first, last, out, accumulate);
    case Format::int8: return multiply_tiles<Format::int8>(x, num_x, w, first, last, out, accumulate);
    case Format::int4: return multiply_tiles<Format::int4>(x, num_x, w, first, last, out, accumulate);
  }
}

void tile_matmul(const float* const* x, int num_x, const Panels& w, int first, int last, float* const* out,
                 bool accumulate) {
  const std::size_t stride = tile_prepared_bytes(num_x, w);
  std::vector<std::uint8_t> rows(stride * static_cast<std::size_t>((num_x + TILE - 1) / TILE * TILE));
  for (int m = 0; m < num_x; ++m) 
    tile_prepare(x[m], num_x, w, rows.data() + stride * static_cast<std::size_t>(m), nullptr);
  tile_matmul_prepared(rows.data(), num_x, w, first, last, out, accumulate);
}
