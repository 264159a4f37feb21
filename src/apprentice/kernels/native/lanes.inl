// Sixteen floats at once, for operators that are written once: one register, two, or an array that the compiler cuts
// up.
//
// Included inside a variant's namespace by a file that includes <immintrin.h> before, where there is one. Multiply-adds
// are fused where the instruction set has them. NaN survives everything here; `exponential` covers the whole range of
// floats.

#if defined(__AVX512F__)
constexpr int kRoom = 8;  // Lanes that fit the registers, beside sums
constexpr int kSums = 16;

struct Lanes {
  __m512 v;
};

inline Lanes splat(float x) { return {_mm512_set1_ps(x)}; }
inline Lanes load(const float* x) { return {_mm512_loadu_ps(x)}; }
inline void store(Lanes a, float* x) { _mm512_storeu_ps(x, a.v); }
inline Lanes load_first(const float* x, int n) { return {_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), x)}; }
inline void store_first(Lanes a, float* x, int n) { _mm512_mask_storeu_ps(x, __mmask16((1u << n) - 1), a.v); }
inline Lanes load_half(const uint16_t* x) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)))};
}
inline Lanes load_bytes(const int8_t* x) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))))};
}
inline void store_half(Lanes a, uint16_t* x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// Of a NaN and a number the second argument.
inline Lanes larger(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Lanes smaller(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
// The first n lanes of a, the others of b.
inline Lanes first_of(Lanes a, Lanes b, int n) { return {_mm512_mask_mov_ps(b.v, __mmask16((1u << n) - 1), a.v)}; }
inline Lanes nearest(Lanes a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// a * 2^n for whole n.
inline Lanes scale_by_power(Lanes a, Lanes n) { return {_mm512_scalef_ps(a.v, n.v)}; }

#elif defined(__AVX2__)
constexpr int kRoom = 6, kSums = 6;

struct Lanes {
  __m256 v, w;
};

inline __m256i first_mask(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Lanes splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Lanes load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
inline void store(Lanes a, float* x) {
  _mm256_storeu_ps(x, a.v);
  _mm256_storeu_ps(x + 8, a.w);
}
inline Lanes load_first(const float* x, int n) {
  return {_mm256_maskload_ps(x, first_mask(n)), n > 8 ? _mm256_maskload_ps(x + 8, first_mask(n - 8)) : _mm256_setzero_ps()};
}
inline void store_first(Lanes a, float* x, int n) {
  _mm256_maskstore_ps(x, first_mask(n), a.v);
  if (n > 8) _mm256_maskstore_ps(x + 8, first_mask(n - 8), a.w);
}
inline Lanes load_half(const uint16_t* x) {
  const __m128i* halves = reinterpret_cast<const __m128i*>(x);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}
inline Lanes load_bytes(const int8_t* x) {
  const auto widened = [](const int8_t* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  };
  return {widened(x), widened(x + 8)};
}
inline void store_half(Lanes a, uint16_t* x) {
  __m128i* halves = reinterpret_cast<__m128i*>(x);
  _mm_storeu_si128(halves, _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(a.w, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.v, b.v), _mm256_add_ps(a.w, b.w)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.v, b.v), _mm256_sub_ps(a.w, b.w)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.v, b.v), _mm256_mul_ps(a.w, b.w)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.v, b.v), _mm256_div_ps(a.w, b.w)}; }
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v), _mm256_fmadd_ps(a.w, b.w, c.w)};
}
inline Lanes larger(Lanes a, Lanes b) { return {_mm256_max_ps(a.v, b.v), _mm256_max_ps(a.w, b.w)}; }
inline Lanes smaller(Lanes a, Lanes b) { return {_mm256_min_ps(a.v, b.v), _mm256_min_ps(a.w, b.w)}; }
inline Lanes first_of(Lanes a, Lanes b, int n) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(first_mask(n))),
          _mm256_blendv_ps(b.w, a.w, _mm256_castsi256_ps(first_mask(n - 8)))};
}
inline Lanes nearest(Lanes a) {
  constexpr int how = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.v, how), _mm256_round_ps(a.w, how)};
}
inline __m256 power(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
inline __m256 scale_by_power(__m256 a, __m256 n) {
  // In two steps: 2^n alone may be too large or too small for a float where the result is not.
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
  return _mm256_mul_ps(_mm256_mul_ps(a, power(half)), power(_mm256_sub_epi32(whole, half)));
}
inline Lanes scale_by_power(Lanes a, Lanes n) { return {scale_by_power(a.v, n.v), scale_by_power(a.w, n.w)}; }

#elif defined(APPRENTICE_LANES_NEON)
constexpr int kRoom = 6, kSums = 6;

struct Lanes {
  float32x4_t v[4];
};

#define APPRENTICE_EACH(expression)               \
  Lanes y;                                        \
  for (int q = 0; q < 4; ++q) y.v[q] = expression; \
  return y

inline Lanes splat(float x) { APPRENTICE_EACH(vdupq_n_f32(x)); }
inline Lanes load(const float* x) { APPRENTICE_EACH(vld1q_f32(x + 4 * q)); }
inline void store(const Lanes& a, float* x) {
  for (int q = 0; q < 4; ++q) vst1q_f32(x + 4 * q, a.v[q]);
}
inline Lanes load_first(const float* x, int n) {
  float some[16] = {};
  __builtin_memcpy(some, x, size_t(n) * sizeof(float));
  return load(some);
}
inline void store_first(const Lanes& a, float* x, int n) {
  float all[16];
  store(a, all);
  __builtin_memcpy(x, all, size_t(n) * sizeof(float));
}
inline int32x4_t four_bytes(const int8_t* x) {
  int32_t word;
  __builtin_memcpy(&word, x, 4);
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(word)))));
}
inline Lanes load_bytes(const int8_t* x) { APPRENTICE_EACH(vcvtq_f32_s32(four_bytes(x + 4 * q))); }
inline Lanes load_half(const uint16_t* x) { APPRENTICE_EACH(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + 4 * q)))); }
inline void store_half(const Lanes& a, uint16_t* x) {
  for (int q = 0; q < 4; ++q) vst1_u16(x + 4 * q, vreinterpret_u16_f16(vcvt_f16_f32(a.v[q])));
}
inline Lanes operator+(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(vaddq_f32(a.v[q], b.v[q])); }
inline Lanes operator-(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(vsubq_f32(a.v[q], b.v[q])); }
inline Lanes operator*(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(vmulq_f32(a.v[q], b.v[q])); }
inline Lanes operator/(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(vdivq_f32(a.v[q], b.v[q])); }
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) { APPRENTICE_EACH(vfmaq_f32(c.v[q], a.v[q], b.v[q])); }
inline Lanes larger(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(vbslq_f32(vcgtq_f32(a.v[q], b.v[q]), a.v[q], b.v[q])); }
inline Lanes smaller(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(vbslq_f32(vcltq_f32(a.v[q], b.v[q]), a.v[q], b.v[q])); }
inline Lanes first_of(const Lanes& a, const Lanes& b, int n) {
  const int32_t numbers[4] = {0, 1, 2, 3};
  const int32x4_t first = vld1q_s32(numbers);
  APPRENTICE_EACH(vbslq_f32(vcltq_s32(vaddq_s32(first, vdupq_n_s32(4 * q)), vdupq_n_s32(n)), a.v[q], b.v[q]));
}
inline Lanes nearest(const Lanes& a) { APPRENTICE_EACH(vrndnq_f32(a.v[q])); }
inline float32x4_t power(int32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
inline Lanes scale_by_power(const Lanes& a, const Lanes& n) {
  // In two steps, as with AVX2.
  Lanes y;
  for (int q = 0; q < 4; ++q) {
    const int32x4_t whole = vcvtnq_s32_f32(n.v[q]), half = vshrq_n_s32(whole, 1);
    y.v[q] = vmulq_f32(vmulq_f32(a.v[q], power(half)), power(vsubq_s32(whole, half)));
  }
  return y;
}
#undef APPRENTICE_EACH

#else
constexpr int kRoom = 2, kSums = 2;

struct Lanes {
  float v[16];
};

#define APPRENTICE_EACH(expression)                 \
  Lanes y;                                          \
  for (int l = 0; l < 16; ++l) y.v[l] = expression; \
  return y

inline uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline float widened(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, size = uint32_t(half & 0x7FFF) << 13;
  // 2^112 moves the exponent's bias from 15 to 127, and makes normal numbers of subnormal ones.
  const uint32_t finite = bits_of(float_of(size) * 0x1p112f);
  return float_of((size >= 0x0F800000 ? size | 0x7F800000 : finite) | sign);
}
inline uint16_t narrowed(float x) {
  const uint32_t sign = bits_of(x) & 0x80000000, size = bits_of(x) ^ sign;
  // Normal: bias 127 to 15, and 13 bits rounded away, ties to even. Subnormal: added to 1/2, the last bit of a float is
  // the step of halves.
  const uint32_t normal = (size + (uint32_t(15 - 127) << 23) + 0xFFF + ((size >> 13) & 1)) >> 13;
  const uint32_t subnormal = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
  const uint32_t beyond = size > 0x7F800000 ? 0x7E00 : 0x7C00;
  return uint16_t((size >= 0x477FF000 ? beyond : size < 0x38800000 ? subnormal : normal) | sign >> 16);
}
inline Lanes splat(float x) { APPRENTICE_EACH(x); }
inline Lanes load(const float* x) { APPRENTICE_EACH(x[l]); }
inline void store(const Lanes& a, float* x) {
  for (int l = 0; l < 16; ++l) x[l] = a.v[l];
}
inline Lanes load_first(const float* x, int n) { APPRENTICE_EACH(l < n ? x[l] : 0); }
inline void store_first(const Lanes& a, float* x, int n) {
  for (int l = 0; l < n; ++l) x[l] = a.v[l];
}
inline Lanes load_half(const uint16_t* x) { APPRENTICE_EACH(widened(x[l])); }
inline Lanes load_bytes(const int8_t* x) { APPRENTICE_EACH(float(x[l])); }
inline void store_half(const Lanes& a, uint16_t* x) {
  for (int l = 0; l < 16; ++l) x[l] = narrowed(a.v[l]);
}
inline Lanes operator+(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(a.v[l] + b.v[l]); }
inline Lanes operator-(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(a.v[l] - b.v[l]); }
inline Lanes operator*(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(a.v[l] * b.v[l]); }
inline Lanes operator/(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(a.v[l] / b.v[l]); }
inline Lanes multiply_add(const Lanes& a, const Lanes& b, const Lanes& c) { APPRENTICE_EACH(a.v[l] * b.v[l] + c.v[l]); }
inline Lanes larger(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(a.v[l] > b.v[l] ? a.v[l] : b.v[l]); }
inline Lanes smaller(const Lanes& a, const Lanes& b) { APPRENTICE_EACH(a.v[l] < b.v[l] ? a.v[l] : b.v[l]); }
inline Lanes first_of(const Lanes& a, const Lanes& b, int n) { APPRENTICE_EACH(l < n ? a.v[l] : b.v[l]); }
// 1.5 * 2^23: where the step of floats is 1. For sizes up to 2^22.
inline Lanes nearest(const Lanes& a) { APPRENTICE_EACH((a.v[l] + 0x1.8p23f) - 0x1.8p23f); }
inline Lanes scale_by_power(const Lanes& a, const Lanes& n) {
  Lanes y;
  for (int l = 0; l < 16; ++l) {
    const int32_t whole = int32_t(bits_of(n.v[l] + 0x1.8p23f) - bits_of(0x1.8p23f)), half = whole >> 1;
    y.v[l] = a.v[l] * float_of(uint32_t(half + 127) << 23) * float_of(uint32_t(whole - half + 127) << 23);
  }
  return y;
}
#undef APPRENTICE_EACH
#endif

// The sum and the largest of the lanes, in an order of their own: halves on halves.
inline float sum_of(const Lanes& a) {
  float x[16];
  store(a, x);
  for (int width = 8; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) x[l] += x[l + width];
  }
  return x[0];
}
inline float largest_of(const Lanes& a) {
  float x[16];
  store(a, x);
  for (int width = 8; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) x[l] = x[l] > x[l + width] ? x[l] : x[l + width];
  }
  return x[0];
}

// e^x within 2^-22 of itself: x = n ln 2 + r with |r| at most ln(2) / 2, e^r by a polynomial (Cephes, expf), times 2^n.
// ln 2 in two parts, of which n times the first is exact.
inline Lanes exponential(const Lanes& x) {
  const Lanes bounded = smaller(splat(89.0f), larger(splat(-105.0f), x));
  const Lanes n = nearest(bounded * splat(1.44269504f));
  const Lanes r = multiply_add(n, splat(2.12194440e-4f), multiply_add(n, splat(-0.693359375f), bounded));
  Lanes p = splat(1.9875691500e-4f);
  p = multiply_add(p, r, splat(1.3981999507e-3f));
  p = multiply_add(p, r, splat(8.3334519073e-3f));
  p = multiply_add(p, r, splat(4.1665795894e-2f));
  p = multiply_add(p, r, splat(1.6666665459e-1f));
  p = multiply_add(p, r, splat(5.0000001201e-1f));
  p = multiply_add(p, r * r, r);
  return scale_by_power(p + splat(1.0f), n);
}
