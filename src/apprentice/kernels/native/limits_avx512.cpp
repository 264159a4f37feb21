// Limits with 512-bit registers, BF16 and 8-bit dot products. See `limits.h`.
#include "limits.h"

#include <immintrin.h>

namespace apprentice {
namespace avx512_ops {
namespace {

constexpr int kAhead = 8 << 10;  // bytes: what the processor fetches by itself alone is less than it can
constexpr int kRegisters = 16;  // independent sums: two operations a cycle of latency 4 to 6, and some to spare

uint32_t read(const void* from, int64_t bytes) {
  const auto* at = static_cast<const __m512i*>(from);
  __m512i sum[4] = {};
  for (const __m512i* end = at + bytes / 64; at < end; at += 4) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      __builtin_prefetch(at + j + kAhead / 64, 0, 3);
      sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(at + j));
    }
  }
  alignas(64) uint32_t words[16];
  _mm512_store_si512(words, _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3])));
  for (int i = 1; i < 16; ++i) words[0] ^= words[i];
  return words[0];
}

int64_t float_operations(int64_t turns) {
  __m512 sum[kRegisters] = {}, factor = _mm512_set1_ps(0.5f);
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 16
    for (int i = 0; i < kRegisters; ++i) {
      sum[i] = _mm512_fmadd_ps(factor, factor, sum[i]);
      __asm__ volatile("" : "+v"(sum[i]));  // the compiler must not add up in advance
    }
  }
  return turns * kRegisters * 16 * 2;
}

int64_t bf16_operations(int64_t turns) {
  __m512 sum[kRegisters] = {};
  const auto factors = (__m512bh)_mm512_set1_epi16(0x3f00);  // 0.5
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 16
    for (int i = 0; i < kRegisters; ++i) {
      sum[i] = _mm512_dpbf16_ps(sum[i], factors, factors);
      __asm__ volatile("" : "+v"(sum[i]));
    }
  }
  return turns * kRegisters * 32 * 2;
}

int64_t int8_operations(int64_t turns) {
  __m512i sum[kRegisters] = {};
  const __m512i unsigned_bytes = _mm512_set1_epi8(24), signed_bytes = _mm512_set1_epi8(3);
  for (int64_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 16
    for (int i = 0; i < kRegisters; ++i) {
      sum[i] = _mm512_dpbusd_epi32(sum[i], unsigned_bytes, signed_bytes);
      __asm__ volatile("" : "+v"(sum[i]));
    }
  }
  return turns * kRegisters * 64 * 2;
}

}  // namespace
}  // namespace avx512_ops

const Limits& avx512_limits() {
  static const Limits limits = {"avx512", avx512_ops::read, avx512_ops::float_operations, avx512_ops::bf16_operations,
                                avx512_ops::int8_operations};
  return limits;
}

}  // namespace apprentice
