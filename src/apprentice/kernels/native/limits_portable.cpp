// Limits with registers of four floats. See `limits.h`.
#include "limits.h"

namespace apprentice {
namespace portable_ops {
namespace {

using Vector = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
constexpr int kRegisters = 12;  // independent sums: the latency of a multiplication and an addition, and more

uint32_t read(const void* from, int64_t bytes) {
  const auto* words = static_cast<const Words*>(from);
  Words sum[4] = {};
  for (int64_t i = 0; i < bytes / 16; i += 16) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) sum[j % 4] ^= words[i + j];
  }
  const Words all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
  return all[0] ^ all[1] ^ all[2] ^ all[3];
}

int64_t float_operations(int64_t turns) {
  Vector sum[kRegisters], factor = {0.5f, 0.5f, 0.5f, 0.5f};
#pragma GCC unroll 12
  for (int i = 0; i < kRegisters; ++i) sum[i] = factor * float(i);  // different, else one is computed for all
  for (int64_t turn = 0; turn < turns; ++turn) {
    // The compiler must not see that every turn is the same.
    __asm__ volatile("" : "+m"(factor));
#pragma GCC unroll 12
    for (int i = 0; i < kRegisters; ++i) sum[i] = sum[i] * factor + factor;
  }
  Vector all = sum[0];
#pragma GCC unroll 12
  for (int i = 1; i < kRegisters; ++i) all += sum[i];
  volatile float kept = all[0] + all[1] + all[2] + all[3];
  (void)kept;
  return turns * kRegisters * 4 * 2;
}

}  // namespace
}  // namespace portable_ops

const Limits& portable_limits() {
  static const Limits limits = {"portable", portable_ops::read, portable_ops::float_operations, nullptr, nullptr};
  return limits;
}

}  // namespace apprentice
