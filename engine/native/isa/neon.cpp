// The kernels for AArch64, where the compiler turns the plain lanes into NEON.

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

bool supported() { return true; }

}  // namespace

const Kernels neon_kernels = DSV_KERNELS("neon", supported);

}  // namespace dsv
