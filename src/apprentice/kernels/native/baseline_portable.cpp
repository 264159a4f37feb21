// Float and BF16 products in plain C++: registers of four floats by the vector types of gcc and clang, which every
// instruction set has.
#define APPRENTICE_VARIANT portable_ops
#include <cstdint>

namespace apprentice::portable_ops {
namespace {

using Vector = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
constexpr int kWidth = 4;
#if defined(__aarch64__)
constexpr int kFloatRows = 6;  // 32 registers
constexpr int kBf16Rows = 4;
constexpr int kFloatPair = 3;
constexpr int kBf16Pair = 2;
#else
constexpr int kFloatRows = 2;
constexpr int kBf16Rows = 2;
constexpr int kFloatPair = 1;
constexpr int kBf16Pair = 1;
#endif
constexpr int kEagerRows = 3;

inline Vector zero() { return Vector{}; }
inline Vector load(const float* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
inline Vector broadcast(const float* from) { return Vector{*from, *from, *from, *from}; }
inline void store(float* to, Vector value) { __builtin_memcpy(to, &value, sizeof value); }
inline Vector multiply_add(Vector a, Vector b, Vector sum) { return sum + a * b; }

inline Words load_words(const uint16_t* from) {
  Words value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
inline Vector low_halves(const uint16_t* from) { return reinterpret_cast<Vector>(load_words(from) << 16); }
inline Vector high_halves(const uint16_t* from) { return reinterpret_cast<Vector>(load_words(from) & 0xFFFF0000u); }

}  // namespace
}  // namespace apprentice::portable_ops

#include "baseline.inl"
