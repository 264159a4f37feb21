// Float and BF16 products with 512-bit registers: 12 rows x 32 outputs are 24 sums.
#define APPRENTICE_VARIANT avx512_ops
#include <immintrin.h>

namespace apprentice::avx512_ops {
namespace {

using Vector = __m512;
constexpr int kWidth = 16;
constexpr int kFloatRows = 12;
constexpr int kBf16Rows = 12;
constexpr int kFloatPair = 12;
constexpr int kBf16Pair = 12;
constexpr int kEagerRows = 4;

inline Vector zero() { return _mm512_setzero_ps(); }
inline Vector load(const float* from) { return _mm512_loadu_ps(from); }
inline Vector broadcast(const float* from) { return _mm512_set1_ps(*from); }
inline void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
inline Vector multiply_add(Vector a, Vector b, Vector sum) { return _mm512_fmadd_ps(a, b, sum); }

}  // namespace
}  // namespace apprentice::avx512_ops

#include "baseline.inl"
