// Float and BF16 products with 256-bit registers: 3 rows x 32 outputs are 12 sums, which leaves 3 registers for the
// rows' activations and one for weights.
#define APPRENTICE_VARIANT avx2_ops
#include <immintrin.h>

#include <cstdint>

namespace apprentice::avx2_ops {
namespace {

using Vector = __m256;
constexpr int kWidth = 8;
constexpr int kFloatRows = 6;
constexpr int kBf16Rows = 5;
constexpr int kFloatPair = 3;
constexpr int kBf16Pair = 2;
constexpr int kEagerRows = 0;

inline Vector zero() { return _mm256_setzero_ps(); }
inline Vector load(const float* from) { return _mm256_loadu_ps(from); }
inline Vector broadcast(const float* from) { return _mm256_broadcast_ss(from); }
inline void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
inline Vector multiply_add(Vector a, Vector b, Vector sum) { return _mm256_fmadd_ps(a, b, sum); }

inline Vector low_halves(const uint16_t* from) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(from)), 16));
}

inline Vector high_halves(const uint16_t* from) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_load_si256(reinterpret_cast<const __m256i*>(from)), mask));
}

}  // namespace
}  // namespace apprentice::avx2_ops

#include "baseline.inl"
