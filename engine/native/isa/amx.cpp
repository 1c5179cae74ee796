// The kernels for AVX-512 with VNNI and BF16, and AMX (tiles of int8 and bf16), on Linux.
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

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

inline __m256i rounded_bf16(Lanes x) { return (__m256i)_mm512_cvtneps_pbh(x.v); }  // to nearest, ties to even

#include "tile_products.h"

// The processor has tiles, and the kernel lets this process use their registers, which it must be asked for.
bool supported() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!avx512vnni_kernels.supported() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  const bool tiles = edx >> 22 & edx >> 24 & edx >> 25 & 1;  // AMX-BF16, AMX-TILE, AMX-INT8
  if (!tiles || !__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) || !(eax >> 5 & 1)) return false;  // AVX512_BF16
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

constexpr Kernels with_tiles(Kernels kernels) {
  kernels.prepared_bytes = tile_prepared_bytes;
  kernels.prepare = tile_prepare;
  kernels.matmul = tile_matmul;
  kernels.matmul_prepared = tile_matmul_prepared;
  return kernels;
}

}  // namespace

const Kernels amx_kernels = with_tiles(DSV_KERNELS("amx", supported));

}  // namespace dsv
