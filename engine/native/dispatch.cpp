// Which instruction set serves this process.
#include <cstdlib>
#include <stdexcept>

#include <string_view>

#include "kernels.h"

namespace dsv {
namespace {

std::vector<const Kernels*> all_kernels() {
#if defined(__x86_64__)
  return {
#if defined(DSV_AMX)
      &amx_kernels,
#endif
      &avx512vnni_kernels, &avx512_kernels,
#if defined(DSV_AVXVNNI)
      &avxvnni_kernels,
#endif
      &avx2_kernels, &scalar_kernels};
#elif defined(__aarch64__)
  return {&neon_kernels, &scalar_kernels};
#else
  return {&scalar_kernels};
#endif
}

const Kernels& decide() {
  const char* wanted = std::getenv("DSV3CHAT_ISA");
  if (wanted == nullptr || *wanted == '\0') return *supported_kernels().front();
  return kernels_named(wanted);
}

}  // namespace

std::vector<const Kernels*> supported_kernels() {
  std::vector<const Kernels*> supported;
  for (const Kernels* kernels : all_kernels())
    if (kernels->supported()) supported.push_back(kernels);
  return supported;
}

const Kernels& chosen_kernels() {
  static const Kernels& chosen = decide();
  return chosen;
}

const Kernels& exact_kernels(const Kernels& kernels) {
  return std::string_view(kernels.name) == "amx" ? kernels_named("avx512vnni") : kernels;
}

const Kernels& kernels_named(const std::string& name) {
  std::string names;
  for (const Kernels* kernels : all_kernels()) {
    names += names.empty() ? kernels->name : std::string(", ") + kernels->name;
    if (name != kernels->name) continue;
    if (kernels->supported()) return *kernels;
    throw std::invalid_argument("DSV3CHAT_ISA=" + name + ": this processor cannot run it");
  }
  throw std::invalid_argument("DSV3CHAT_ISA=" + name + " is not known; choose one of " + names);
}

}  // namespace dsv
