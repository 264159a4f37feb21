// The products with 512-bit registers and 8-bit dot products: F BW DQ VL VNNI VBMI.
//
//   step     nibbles --vpermb--> 16 outputs x 4 weights of 8 bits --vpdpbusd with 4 activations--> 16 sums of a block of 16
//            inputs, exact in 32 bits --x scale of the block--> float sums of 64 inputs --x scale of the activations--> y
//            For one row of activations memory is the limit; for eight, 4 vpdpbusd + conversion + one multiply-add a block.
//   prompt   the 4 blocks of a tile are brought to one scale in 8 bits while they lie in the first-level cache. With many
//            rows that costs nothing, and a tile then needs 16 vpdpbusd and one conversion: a third fewer instructions.
//
// Rows are worked on 6, 4, 2 or 1 at a time, each with sums of its own in the same order. Meanwhile the weights that come next are
// fetched: the processor by itself fetches too little while it multiplies. Letters as in operators.h.
#define APPRENTICE_VARIANT avx512_ops
#include "declarations.inl"

#include <immintrin.h>

#include "tiles.h"

namespace apprentice::avx512_ops {
namespace {

constexpr int32_t kMagic = 0x4B400000;
constexpr int kTurnRows = 6;  // most rows worked on at a time
constexpr int kFewRows = 3;   // for up to so many one panel at a time is faster; of 8 bits the processor then fetches enough by itself
constexpr int64_t kAhead = 16 << 10, kFarthest = 256 << 10;  // bytes
constexpr int kPanelGroups = 16;  // of a panel, brought to 8 bits at a time: 17 KiB

inline __m512i broadcast4(const int8_t* values) {
  int32_t four;
  __builtin_memcpy(&four, values, 4);
  return _mm512_set1_epi32(four);
}

// Twice the value of a code of E2M1, plus 12; four times, for vpermb looks at six bits of an index.
inline __m512i unsigned_values() {
  const __m128i table = _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
  return _mm512_broadcast_i32x4(table);
}

inline __m512i signed_values() {
  const __m128i table = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  return _mm512_broadcast_i32x4(table);
}

// Weights to be fetched into the second-level cache: so many lines at each group, and as many in the other panel where that is elsewhere.
struct Ahead {
  const uint8_t* at;
  int64_t lines, to_other;

  void fetch() {
    if (to_other != 0) fetch_one(at + to_other);
    fetch_one(at);
    at += 64 * lines;
  }

  void fetch_one(const uint8_t* from) const {
#pragma GCC unroll 2
    for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(from + 64 * line, 0, 2);
  }
};

// The weights wanted next: `lines` at each of `groups`. Rows that take turns at the present ones fetch a share each, so that memory is
// never idle while arithmetic is the limit.
struct Next {
  const uint8_t* at;
  int64_t lines, to_other, groups, rows;

  Ahead share(int64_t m, int64_t count) const {
    if (count == rows) return {at, lines, to_other};
    const int64_t first = lines * m / rows;
    return {at + first * groups * 64, lines * (m + count) / rows - first, to_other};
  }
};

// Behind `count` panels of a matrix: as many more. Where all rows are one turn and panels are too long for the cache: what is kAhead away
// in each.
inline Next next_of(const uint8_t* panels, int64_t count, int64_t tile_bytes, const Quantized& x, int64_t rows) {
  const int64_t size = x.groups * tile_bytes, all = count * size, lines = tile_bytes / 64;
  if (all > kFarthest && rows <= kTurnRows) return {panels + kAhead, lines, count > 1 ? size : 0, x.groups, rows};
  return {panels + (all < kAhead ? kAhead : all), count * lines, 0, x.groups, rows};
}

// A sum that began at kMagic, the bits of 1.5 * 2^23: where floats are 1 apart, a whole number added to the bits is added to
// the value. A subtraction has a unit of its own; a conversion would keep the one busy that multiplies.
inline __m512 to_float(__m512i sum) { return _mm512_sub_ps(_mm512_castsi512_ps(sum), _mm512_set1_ps(0x1.8p23f)); }

inline __m512 block_scales(const uint8_t* codes) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(codes)));
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(wide, 20), _mm512_set1_epi32(kFloatBias << 23)));
}

// R rows x P neighbouring panels: what is broadcast of a row meets P registers of weights.
template <int R, int P>
inline void step_rows(const uint8_t* tile, float factor, const Quantized& x, int64_t m, Ahead ahead, float* y, int64_t y_stride) {
  const int64_t next_panel = x.groups * kNvfp4Tile;
  const __m512i table = unsigned_values();
  const Activations* from = x.at + m;
  __m512 total[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) total[r][p] = _mm512_setzero_ps();
  }
  for (int64_t group = 0; group < x.groups; ++group, tile += kNvfp4Tile, from += x.stride) {
    ahead.fetch();
    __m512 sum[R][P];
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) sum[r][p] = _mm512_setzero_ps();
    }
#pragma GCC unroll 4
    for (int block = 0; block < 4; ++block) {
      __m512i products[R][P];
      for (int r = 0; r < R; ++r) {
        for (int p = 0; p < P; ++p) products[r][p] = _mm512_set1_epi32(from[r].block_offsets[block]);
      }
      // All rows' sums grow side by side: each dot product waits four cycles for the one before it.
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        __m512i weights[P];
        for (int p = 0; p < P; ++p) {
          const __m512i codes = _mm512_load_si512(tile + p * next_panel + block * 128 + i / 2 * 64);
          weights[p] = _mm512_permutexvar_epi8(i % 2 ? _mm512_srli_epi16(codes, 4) : codes, table);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m512i four = broadcast4(from[r].values + block * kBlock + 4 * i);
          for (int p = 0; p < P; ++p) products[r][p] = _mm512_dpbusd_epi32(products[r][p], weights[p], four);
        }
      }
      for (int p = 0; p < P; ++p) {
        const __m512 scales = block_scales(tile + p * next_panel + 512 + block * 16);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sum[r][p] = _mm512_fmadd_ps(to_float(products[r][p]), scales, sum[r][p]);
      }
    }
    for (int r = 0; r < R; ++r) {
      const __m512 scale = _mm512_set1_ps(from[r].scale);
      for (int p = 0; p < P; ++p) total[r][p] = _mm512_fmadd_ps(sum[r][p], scale, total[r][p]);
    }
  }
  const __m512 halved = _mm512_set1_ps(0.5f * factor);
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(y + (m + r) * y_stride + p * kLanes, _mm512_mul_ps(total[r][p], halved));
  }
}

template <int P>
void step_panels(const uint8_t* tile, float factor, const Quantized& x, int64_t rows, float* y, int64_t y_stride) {
  if (rows == 1) {  // the numbers known to the compiler: here memory is all that is waited for
    step_rows<1, P>(tile, factor, x, 0, {tile + kAhead, P * kNvfp4Tile / 64, 0}, y, y_stride);
    return;
  }
  const Next next = next_of(tile, P, kNvfp4Tile, x, rows);
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) step_rows<4, P>(tile, factor, x, m, next.share(m, 4), y, y_stride);
  if (m + 2 <= rows) step_rows<2, P>(tile, factor, x, m, next.share(m, 2), y, y_stride), m += 2;
  if (m < rows) step_rows<1, P>(tile, factor, x, m, next.share(m, 1), y, y_stride);
}

// Groups [group, group + count) of one panel in 8 bits, tile after tile from `tile`, with R rows; adds to y.
template <int R, int P>
inline void int8_rows(const uint8_t* tile, int64_t next_panel, const Quantized& x, int64_t m, int64_t group, int64_t count,
                      bool starts, Ahead ahead, float* y, int64_t y_stride) {
  __m512 total[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      total[r][p] = starts ? _mm512_setzero_ps() : _mm512_loadu_ps(y + (m + r) * y_stride + p * kLanes);
    }
  }
  const Activations* from = x.at + group * x.stride + m;
  for (int64_t g = 0; g < count; ++g, tile += kInt8Tile, from += x.stride) {
    if constexpr (P > 1) ahead.fetch();
    __m512i products[R][P];
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) products[r][p] = _mm512_set1_epi32(from[r].group_offset);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kGroup / 4; ++i) {
      __m512i weights[P];
      for (int p = 0; p < P; ++p) weights[p] = _mm512_load_si512(tile + p * next_panel + 64 * i);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512i four = broadcast4(from[r].values + 4 * i);
        for (int p = 0; p < P; ++p) products[r][p] = _mm512_dpbusd_epi32(products[r][p], weights[p], four);
      }
    }
    for (int p = 0; p < P; ++p) {
      const __m512 scales = _mm512_load_ps(tile + p * next_panel + kLanes * kGroup);
      for (int r = 0; r < R; ++r) {
        const __m512 both = _mm512_mul_ps(scales, _mm512_set1_ps(from[r].scale));
        total[r][p] = _mm512_fmadd_ps(to_float(products[r][p]), both, total[r][p]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(y + (m + r) * y_stride + p * kLanes, total[r][p]);
  }
}

template <int P>
void int8_panels(const uint8_t* tile, int64_t next_panel, const Quantized& x, int64_t rows, int64_t group, int64_t count,
                 bool starts, const Next& next, float* y, int64_t y_stride) {
  int64_t m = 0;
  for (; m + 6 <= rows; m += 6) int8_rows<6, P>(tile, next_panel, x, m, group, count, starts, next.share(m, 6), y, y_stride);
  if (m + 4 <= rows) int8_rows<4, P>(tile, next_panel, x, m, group, count, starts, next.share(m, 4), y, y_stride), m += 4;
  if (m + 2 <= rows) int8_rows<2, P>(tile, next_panel, x, m, group, count, starts, next.share(m, 2), y, y_stride), m += 2;
  if (m < rows) int8_rows<1, P>(tile, next_panel, x, m, group, count, starts, next.share(m, 1), y, y_stride);
}

// The largest code, doubled, becomes 12 x kStep: a whole number, so that the block with the largest scale is not rounded at
// all, and one with half or a quarter of it hardly. With 127 every block would be, a third more in all.
constexpr int kStep = 10;

// Doubled codes of 8 bits x multipliers with 8 bits behind the point -> 8 bits plus 128, rounded. A product is at most
// 12 * kStep * 256, which fits 16 bits.
inline __m512i scaled(__m512i codes, __m512i multipliers) {
  const __m512i half = _mm512_set1_epi16(128);
  const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 8), odd = _mm512_srai_epi16(codes, 8);
  const __m512i low = _mm512_srli_epi16(_mm512_add_epi16(_mm512_mullo_epi16(even, multipliers), half), 8);
  const __m512i high = _mm512_add_epi16(_mm512_mullo_epi16(odd, multipliers), half);
  const __m512i bytes = _mm512_mask_blend_epi8(0xAAAAAAAAAAAAAAAAull, low, high);
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(char(128)));
}

// A tile of NVFP4 -> a tile of 8 bits. `factor` goes into its scales.
inline void widen_tile(const uint8_t* tile, float factor, uint8_t* out) {
  const __m512i table = signed_values();
  __m512 scales[4];
  for (int block = 0; block < 4; ++block) scales[block] = block_scales(tile + 512 + block * 16);
  const __m512 largest = _mm512_max_ps(_mm512_max_ps(scales[0], scales[1]), _mm512_max_ps(scales[2], scales[3]));
  const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(kStep * 256.0f), largest);
  for (int block = 0; block < 4; ++block) {
    const __m512i wide = _mm512_cvtps_epi32(_mm512_mul_ps(scales[block], inverse));
    const __m512i multipliers = _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16));
    const __m512i low = _mm512_load_si512(tile + block * 128), high = _mm512_load_si512(tile + block * 128 + 64);
    uint8_t* to = out + block * 256;
    _mm512_store_si512(to, scaled(_mm512_permutexvar_epi8(low, table), multipliers));
    _mm512_store_si512(to + 64, scaled(_mm512_permutexvar_epi8(_mm512_srli_epi16(low, 4), table), multipliers));
    _mm512_store_si512(to + 128, scaled(_mm512_permutexvar_epi8(high, table), multipliers));
    _mm512_store_si512(to + 192, scaled(_mm512_permutexvar_epi8(_mm512_srli_epi16(high, 4), table), multipliers));
  }
  _mm512_store_ps(out + kLanes * kGroup, _mm512_mul_ps(largest, _mm512_set1_ps(factor * 0.5f / kStep)));
}

}  // namespace

void quantize(const float* x, int64_t k, Activations* to, int64_t stride) {
  for (int64_t start = 0; start < k; start += kGroup) {
    __m512 part[4], largest = _mm512_setzero_ps();
    __mmask16 odd = 0;
    for (int block = 0; block < 4; ++block) {
      const int64_t left = k - start - block * kBlock;
      const __mmask16 there = left >= kBlock ? 0xFFFF : left > 0 ? __mmask16((1u << left) - 1) : 0;
      part[block] = _mm512_maskz_loadu_ps(there, x + start + block * kBlock);
      // NaN and both infinities: 0x01 | 0x80 | 0x08 | 0x10.
      odd |= _mm512_fpclass_ps_mask(part[block], 0x99);
      largest = _mm512_max_ps(largest, _mm512_abs_ps(part[block]));
    }
    Activations& group = to[start / kGroup * stride];
    const float most = _mm512_reduce_max_ps(largest);
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    group.scale = odd ? __builtin_nanf("") : most / 127.0f;
    int total = 0;
    for (int block = 0; block < 4; ++block) {
      __m512 value = _mm512_mul_ps(part[block], _mm512_set1_ps(inverse));
      value = _mm512_max_ps(_mm512_min_ps(value, _mm512_set1_ps(127.0f)), _mm512_set1_ps(-127.0f));
      const __m512i whole = odd ? _mm512_setzero_si512() : _mm512_cvtps_epi32(value);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(group.values + block * kBlock), _mm512_cvtepi32_epi8(whole));
      const int sum = _mm512_reduce_add_epi32(whole);
      group.block_offsets[block] = kMagic - 12 * sum;
      total += sum;
    }
    group.group_offset = kMagic - 128 * total;
  }
}

void nvfp4_step(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                int64_t y_stride) {
  const int64_t size = x.groups * kNvfp4Tile;
  int64_t panel = first;
  // Few rows wait for memory, which comes fastest in one stream.
  for (; rows > kFewRows && panel + 2 <= last; panel += 2) {
    step_panels<2>(tiles + panel * size, factor, x, rows, y + panel * kLanes, y_stride);
  }
  for (; panel < last; ++panel) step_panels<1>(tiles + panel * size, factor, x, rows, y + panel * kLanes, y_stride);
}

void nvfp4_prompt(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  constexpr int64_t kPanel = kPanelGroups * kInt8Tile;
  alignas(64) uint8_t wide[2 * kPanel];
  const int64_t size = x.groups * kNvfp4Tile, parts = (x.groups + kPanelGroups - 1) / kPanelGroups;
  for (int64_t panel = first; panel < last; panel += 2) {
    const int panels = panel + 2 <= last ? 2 : 1;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t group = x.groups * part / parts, end = x.groups * (part + 1) / parts, count = end - group;
      for (int p = 0; p < panels; ++p) {
        const uint8_t* tile = tiles + (panel + p) * size + group * kNvfp4Tile;
        for (int64_t i = 0; i < count; ++i) widen_tile(tile + i * kNvfp4Tile, factor, wide + p * kPanel + i * kInt8Tile);
      }
      // What is widened next: of the same panels, or of the next ones.
      const uint8_t* tile = tiles + panel * size + (part + 1 < parts ? end * kNvfp4Tile : 2 * size);
      const Next next = {tile, kNvfp4Tile / 64, size, count, rows};
      const auto multiply = panels == 2 ? int8_panels<2> : int8_panels<1>;
      multiply(wide, kPanel, x, rows, group, count, group == 0, next, y + panel * kLanes, y_stride);
    }
  }
}

void int8_product(const uint8_t* tiles, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  const int64_t size = x.groups * kInt8Tile;
  const auto panels = [&](auto multiply, int64_t panel, int64_t count) {
    const uint8_t* tile = tiles + panel * size;
    multiply(tile, size, x, rows, 0, x.groups, true, next_of(tile, count, kInt8Tile, x, rows), y + panel * kLanes, y_stride);
  };
  int64_t panel = first;
  for (; rows > kFewRows && panel + 2 <= last; panel += 2) panels(int8_panels<2>, panel, 2);
  for (; panel < last; ++panel) panels(int8_panels<1>, panel, 1);
}

}  // namespace apprentice::avx512_ops
