// What the processor says of itself, and what the operating system keeps: registers that it does not save at a switch
// of threads must not be used, whatever the processor has. Hence both are asked, by cpuid and xgetbv.
#include "cpu.h"

#include <cstdint>
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace apprentice {
namespace {

#if defined(__x86_64__)
bool all(uint32_t word, std::initializer_list<int> bits) {
  for (int bit : bits) {
    if (!(word >> bit & 1)) return false;
  }
  return true;
}

struct Cpu {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F BW DQ VL VNNI VBMI BF16
};

// Bits: Intel, Software Developer's Manual, volume 2A, CPUID; volume 1, 13.2 (XCR0).
Cpu look() {
  Cpu found;
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !all(ecx, {12, 27, 28, 29})) return found;  // FMA OSXSAVE AVX F16C
  uint32_t saved, high;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!all(saved, {1, 2})) return found;  // XMM YMM
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return found;
  found.avx2 = all(ebx, {5});
  const bool basic = all(ebx, {16, 17, 30, 31}) && all(ecx, {1, 11});  // F DQ BW VL, VBMI VNNI
  const bool more = eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && all(eax, {5});  // BF16
  found.avx512 = found.avx2 && basic && more && all(saved, {5, 6, 7});  // masks, upper halves, registers 16 to 31
  return found;
}
#endif

#if defined(__aarch64__)
// Every aarch64 has NEON; 8-bit dot products came with Armv8.2. All of Apple's have them.
[[maybe_unused]] bool has_dot_products() {
#if defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;  // Linux, arch/arm64/include/uapi/asm/hwcap.h
  return getauxval(AT_HWCAP) & kAsimdDp;
#else
  return true;
#endif
}
#endif

std::vector<const Operators*> usable() {
  std::vector<const Operators*> found;
#if defined(__x86_64__)
  const Cpu cpu = look();
#if defined(APPRENTICE_WITH_AVX512)
  if (cpu.avx512) found.push_back(&avx512());
#endif
#if defined(APPRENTICE_WITH_AVX2)
  if (cpu.avx2) found.push_back(&avx2());
#endif
  (void)cpu;
#endif
#if defined(APPRENTICE_WITH_NEON)
  if (has_dot_products()) found.push_back(&neon());
#endif
#if defined(APPRENTICE_WITH_PORTABLE)
  found.push_back(&portable());
#endif
  return found;
}

}  // namespace

const std::vector<const Operators*>& usable_variants() {
  static const std::vector<const Operators*> found = usable();
  return found;
}

const Operators* find_variant(const std::string& name) {
  for (const Operators* operators : usable_variants()) {
    if (name == operators->name) return operators;
  }
  return nullptr;
}

}  // namespace apprentice
