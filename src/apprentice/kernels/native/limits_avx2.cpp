// Limits with 256-bit registers. See `limits.h`. There is no BF16. 8 bits are multiplied and
// added in pairs, and the pairs added in 16 bits: what the NVFP4 kernel does four times before it widens a sum.
#include "limits.h"

#include <immintrin.h>

namespace apprentice {
namespace avx2_ops {
namespace {

constexpr int kRegisters = 12;  // independent sums: two multiply-adds a cycle of latency 4, or 5, and some to spare

uint32_t read(const void* from, int64_t bytes) {
  const auto* at = static_cast<const __m256i*>(from);
  __m256i sum[4] = {};
  for (const __m256i* end = at + bytes / 32; at < end; at += 8) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) sum[j % 4] = _mm256_xor_si256(sum[j % 4], _mm256_load_si256(at + j));
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
  alignas(32) uint32_t words[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), all);
  for (int i = 1; i < 8; ++i) words[0] ^= words[i];
  return words[0];
}

int64_t float_operations(int64_t turns) {
  __m256 sum[kRegisters] = {}, factor = _mm256_set1_ps(0.5f);
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 12
    for (int i = 0; i < kRegisters; ++i) {
      sum[i] = _mm256_fmadd_ps(factor, factor, sum[i]);
      __asm__ volatile("" : "+x"(sum[i]));  // the compiler must not add up in advance
    }
  }
  return turns * kRegisters * 8 * 2;
}

int64_t int8_operations(int64_t turns) {
  __m256i sum[kRegisters] = {}, bytes = _mm256_set1_epi8(24);
  const __m256i signed_bytes = _mm256_set1_epi8(3);
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 12
    for (int i = 0; i < kRegisters; ++i) {
      __asm__ volatile("" : "+x"(bytes));  // the compiler must not take one product for all
      sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(bytes, signed_bytes));
      __asm__ volatile("" : "+x"(sum[i]));
    }
  }
  return turns * kRegisters * 32 * 2;
}

}  // namespace
}  // namespace avx2_ops

const Limits& avx2_limits() {
  static const Limits limits = {"avx2", avx2_ops::read, avx2_ops::float_operations, nullptr, avx2_ops::int8_operations};
  return limits;
}

}  // namespace apprentice
