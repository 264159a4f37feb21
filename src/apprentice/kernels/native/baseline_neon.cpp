// Float and BF16 products with registers of four floats and fused multiply-adds.
#define APPRENTICE_VARIANT neon_ops
#include <arm_neon.h>

#include <cstdint>

namespace apprentice::neon_ops {
namespace {

using Vector = float32x4_t;
constexpr int kWidth = 4;
constexpr int kFloatRows = 6;  // 32 registers
constexpr int kBf16Rows = 4;
constexpr int kFloatPair = 3;
constexpr int kBf16Pair = 2;
constexpr int kEagerRows = 3;

inline Vector zero() { return vdupq_n_f32(0); }
inline Vector load(const float* from) { return vld1q_f32(from); }
inline Vector broadcast(const float* from) { return vld1q_dup_f32(from); }
inline void store(float* to, Vector value) { vst1q_f32(to, value); }
inline Vector multiply_add(Vector a, Vector b, Vector sum) { return vfmaq_f32(sum, a, b); }

inline uint32x4_t load_words(const uint16_t* from) { return vreinterpretq_u32_u16(vld1q_u16(from)); }
inline Vector low_halves(const uint16_t* from) { return vreinterpretq_f32_u32(vshlq_n_u32(load_words(from), 16)); }
inline Vector high_halves(const uint16_t* from) {
  return vreinterpretq_f32_u32(vandq_u32(load_words(from), vdupq_n_u32(0xFFFF0000u)));
}

}  // namespace
}  // namespace apprentice::neon_ops

#include "baseline.inl"
