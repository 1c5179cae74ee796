// The kernels for AVX2 and FMA.
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../kernels.h"

namespace dsv {
namespace {

constexpr int ROWS = 5;  // rows of a tile of a large product
constexpr int ACCUMULATORS = 5;  // of sixteen lanes, that leave registers for weights, one x and a mask
constexpr int PANELS_OF_ONE = 4;  // panels that one row meets at once
constexpr int HEADS = 3;  // heads that share a widened key

#include "lanes.h"
// clang-format off
#include "kernels_impl.h"
// clang-format on

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Kernels avx2_kernels = DSV_KERNELS("avx2", supported);

}  // namespace dsv
