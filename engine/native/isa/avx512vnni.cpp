// The kernels for AVX-512 (F, BW, VL, DQ) with products of 16-bit pairs in one instruction (VNNI).
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../kernels.h"

namespace dsv {
namespace {

constexpr int ROWS = 12;  // rows of a tile of a large product
constexpr int ACCUMULATORS = 24;  // of sixteen lanes, that leave registers for weights, one x and a mask
constexpr int PANELS_OF_ONE = 8;  // panels that one row meets at once
constexpr int PREFETCH = 2048;  // bytes ahead of what a product of codes reads
constexpr int HEADS = 4;  // heads that share a widened key

// clang-format off
#include "lanes.h"
#include "integers.h"
#include "products.h"
#include "integer_products.h"
#include "matmul.h"
#include "widening.h"
#include "kernels_impl.h"
// clang-format on

bool supported() { return avx512_kernels.supported() && __builtin_cpu_supports("avx512vnni"); }

}  // namespace

const Kernels avx512vnni_kernels = DSV_KERNELS("avx512vnni", supported);

}  // namespace dsv
