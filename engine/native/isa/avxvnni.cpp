// The kernels for AVX2 and FMA with products of 16-bit pairs in one instruction (AVX-VNNI).
#include <cpuid.h>
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../kernels.h"

namespace dsv {
namespace {

constexpr int ROWS = 5;  // rows of a tile of a large product
constexpr int ACCUMULATORS = 5;  // of sixteen lanes, that leave registers for weights, one x and a mask
constexpr int PANELS_OF_ONE = 4;  // panels that one row meets at once
constexpr int PREFETCH = 2048;  // bytes ahead of what a product of codes reads
constexpr int HEADS = 3;  // heads that share a widened key

// clang-format off
#include "lanes.h"
#include "integers.h"
#include "products.h"
#include "integer_products.h"
#include "matmul.h"
#include "widening.h"
#include "kernels_impl.h"
// clang-format on

bool supported() {  // leaf 7.1, which __builtin_cpu_supports of older compilers does not know
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return avx2_kernels.supported() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

}  // namespace

const Kernels avxvnni_kernels = DSV_KERNELS("avxvnni", supported);

}  // namespace dsv
