// The products with 256-bit registers and no 8-bit dot product: AVX2, FMA.
//
//   nibbles --vpshufb--> 8 outputs x 4 weights of 8 bits, unsigned --4 x vpmaddubsw--> pairs, at most 8 * 24 * 127 in 16 bits
//           --vpmaddwd--> 8 sums of a block of 16 inputs --x scale of the block--> float sums of 64 inputs --> y
//
// Half a tile (8 outputs) is worked on with 4 rows of activations at a time, a whole one with 2 or 1, each with sums of its own in the
// same order. For a prompt, or kManyRows, a panel is unpacked once and read by all rows: same numbers, a quarter fewer instructions.
// 8-bit weights need 16 bits for two products: |x| times w with the sign of x. Letters as in operators.h.
#define APPRENTICE_VARIANT avx2_ops
#include "declarations.inl"

#include <immintrin.h>

#include "tiles.h"

namespace apprentice::avx2_ops {
namespace {

constexpr int kPanelGroups = 16;
constexpr int64_t kAhead = 2048;  // bytes
constexpr int64_t kManyRows = 8;
constexpr int kUnpackedTile = kLanes * kGroup + 4 * kLanes * 4;
// 8-bit weights in the order of the tile, then 4 x 16 float scales.

inline __m256i broadcast4(const int8_t* values) {
  int32_t four;
  __builtin_memcpy(&four, values, 4);
  return _mm256_set1_epi32(four);
}

inline __m256i load(const uint8_t* at) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(at)); }

// Weights that are wanted soon: the processor by itself fetches too little while it multiplies.
template <int lines>
inline void fetch(const uint8_t* at) {
#pragma GCC unroll 17
  for (int line = 0; line < lines; ++line) __builtin_prefetch(at + 64 * line, 0, 3);
}

inline __m256 block_scales(const uint8_t* codes) {
  const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(wide, 20), _mm256_set1_epi32(kFloatBias << 23)));
}

// Half a block: outputs [8 half, 8 half + 8) of a tile, inputs [16 block, 16 block + 16).
struct Packed {
  static constexpr int kBytes = kNvfp4Tile;
  // Of those the inputs [4 i, 4 i + 4).
  static inline __m256i weights(const uint8_t* tile, int block, int half, int i) {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    const __m256i two = load(tile + block * 128 + i / 2 * 64 + half * 32);
    return _mm256_shuffle_epi8(table, _mm256_and_si256(i % 2 ? _mm256_srli_epi16(two, 4) : two, _mm256_set1_epi8(15)));
  }
  static inline __m256 scales(const uint8_t* tile, int block, int half) {
    return block_scales(tile + 512 + block * 16 + half * 8);
  }
};

struct Unpacked {
  static constexpr int kBytes = kUnpackedTile;
  static inline __m256i weights(const uint8_t* tile, int block, int half, int i) { return load(tile + (block * 4 + i) * 64 + half * 32); }
  static inline __m256 scales(const uint8_t* tile, int block, int half) {
    return _mm256_load_ps(reinterpret_cast<const float*>(tile + kLanes * kGroup) + block * kLanes + half * 8);
  }
};

inline void unpack_tile(const uint8_t* tile, uint8_t* out) {
  for (int block = 0; block < 4; ++block) {
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        __m256i* to = reinterpret_cast<__m256i*>(out + (block * 4 + i) * 64 + half * 32);
        _mm256_store_si256(to, Packed::weights(tile, block, half, i));
      }
      float* scales = reinterpret_cast<float*>(out + kLanes * kGroup) + block * kLanes + half * 8;
      _mm256_store_ps(scales, Packed::scales(tile, block, half));
    }
  }
}

// Groups [group, group + count) of half a panel; goes on from what stands in y unless it `starts`.
template <class Source, int R>
inline void nvfp4_rows(const uint8_t* tile, const Quantized& x, int64_t m, int half, int64_t group, int64_t count, bool starts,
                       const uint8_t* ahead, float* y, int64_t y_stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256 total[R];
  for (int r = 0; r < R; ++r) total[r] = starts ? _mm256_setzero_ps() : _mm256_loadu_ps(y + (m + r) * y_stride);
  const Activations* from = x.at + group * x.stride + m;
  for (int64_t g = 0; g < count; ++g, tile += Source::kBytes, from += x.stride) {
    if (ahead != nullptr) fetch<kNvfp4Tile / 64>(ahead + g * kNvfp4Tile);
    __m256 sum[R];
    for (int r = 0; r < R; ++r) sum[r] = _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int block = 0; block < 4; ++block) {
      __m256i w[4];
      for (int i = 0; i < 4; ++i) w[i] = Source::weights(tile, block, half, i);
      const __m256 scales = Source::scales(tile, block, half);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const int8_t* values = from[r].values + block * kBlock;
        __m256i pairs = _mm256_maddubs_epi16(w[0], broadcast4(values));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w[1], broadcast4(values + 4)));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w[2], broadcast4(values + 8)));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w[3], broadcast4(values + 12)));
        const __m256i offset = _mm256_set1_epi32(from[r].block_offsets[block]);
        const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(pairs, ones), offset);
        sum[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scales, sum[r]);
      }
    }
    for (int r = 0; r < R; ++r) {
      total[r] = _mm256_fmadd_ps(sum[r], _mm256_set1_ps(from[r].scale), total[r]);
    }
  }
  for (int r = 0; r < R; ++r) _mm256_storeu_ps(y + (m + r) * y_stride, total[r]);
}

// One or two rows and both halves at once: memory is the limit, and is read in order.
template <int R>
inline void nvfp4_few(const uint8_t* tile, const Quantized& x, int64_t m, bool fetches, float* y, int64_t y_stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256 total[R][2];
  for (int r = 0; r < R; ++r) total[r][0] = total[r][1] = _mm256_setzero_ps();
  const Activations* from = x.at + m;
  for (int64_t g = 0; g < x.groups; ++g, tile += kNvfp4Tile, from += x.stride) {
    if (fetches) fetch<kNvfp4Tile / 64>(tile + kAhead);
    __m256 sum[R][2];
    for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int block = 0; block < 4; ++block) {
      __m256i pairs[R][2];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m256i w[2] = {Packed::weights(tile, block, 0, i), Packed::weights(tile, block, 1, i)};
        for (int r = 0; r < R; ++r) {
          const __m256i four = broadcast4(from[r].values + block * kBlock + 4 * i);
          for (int half = 0; half < 2; ++half) {
            const __m256i two = _mm256_maddubs_epi16(w[half], four);
            pairs[r][half] = i == 0 ? two : _mm256_add_epi16(pairs[r][half], two);
          }
        }
      }
      for (int half = 0; half < 2; ++half) {
        const __m256 scales = Packed::scales(tile, block, half);
        for (int r = 0; r < R; ++r) {
          const __m256i offset = _mm256_set1_epi32(from[r].block_offsets[block]);
          const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(pairs[r][half], ones), offset);
          sum[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scales, sum[r][half]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int half = 0; half < 2; ++half) {
        total[r][half] = _mm256_fmadd_ps(sum[r][half], _mm256_set1_ps(from[r].scale), total[r][half]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int half = 0; half < 2; ++half) _mm256_storeu_ps(y + (m + r) * y_stride + 8 * half, total[r][half]);
  }
}

inline void scale_panel(float factor, int64_t rows, float* y, int64_t y_stride) {
  const __m256 halved = _mm256_set1_ps(0.5f * factor);
  for (int64_t m = 0; m < rows; ++m, y += y_stride) {
    _mm256_storeu_ps(y, _mm256_mul_ps(_mm256_loadu_ps(y), halved));
    _mm256_storeu_ps(y + 8, _mm256_mul_ps(_mm256_loadu_ps(y + 8), halved));
  }
}

// All outputs of a panel: what is made of the activations serves both halves.
template <int R>
inline void int8_rows(const uint8_t* tile, const Quantized& x, int64_t m, bool fetches, float* y, int64_t y_stride) {
  const __m256i ones = _mm256_set1_epi16(1), middle = _mm256_set1_epi8(char(128));
  __m256 total[R][2];
  for (int r = 0; r < R; ++r) total[r][0] = total[r][1] = _mm256_setzero_ps();
  const Activations* from = x.at + m;
  for (int64_t g = 0; g < x.groups; ++g, tile += kInt8Tile, from += x.stride) {
    if (fetches) fetch<kInt8Tile / 64>(tile + kAhead);
    __m256i products[R][2];
    for (int r = 0; r < R; ++r) products[r][0] = products[r][1] = _mm256_setzero_si256();
    for (int i = 0; i < kGroup / 4; ++i) {
      const __m256i w[2] = {_mm256_xor_si256(load(tile + 64 * i), middle), _mm256_xor_si256(load(tile + 64 * i + 32), middle)};
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256i four = broadcast4(from[r].values + 4 * i), sizes = _mm256_abs_epi8(four);
        for (int half = 0; half < 2; ++half) {
          const __m256i pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(w[half], four));
          products[r][half] = _mm256_add_epi32(products[r][half], _mm256_madd_epi16(pairs, ones));
        }
      }
    }
    const float* scales = reinterpret_cast<const float*>(tile + kLanes * kGroup);
    for (int r = 0; r < R; ++r) {
      for (int half = 0; half < 2; ++half) {
        const __m256 both = _mm256_mul_ps(_mm256_load_ps(scales + 8 * half), _mm256_set1_ps(from[r].scale));
        total[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[r][half]), both, total[r][half]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int half = 0; half < 2; ++half) _mm256_storeu_ps(y + (m + r) * y_stride + 8 * half, total[r][half]);
  }
}

inline float largest_of(__m256 x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace

void quantize(const float* x, int64_t k, Activations* to, int64_t stride) {
  for (int64_t start = 0; start < k; start += kGroup) {
    alignas(32) float part[kGroup] = {};
    const int64_t size = k - start < kGroup ? k - start : kGroup;
    __builtin_memcpy(part, x + start, size_t(size) * sizeof(float));
    const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    __m256 largest = _mm256_setzero_ps();
    __m256i odd = _mm256_setzero_si256();
    for (int i = 0; i < kGroup; i += 8) {
      const __m256 sizes = _mm256_and_ps(_mm256_load_ps(part + i), absolute);
      // NaN and infinity have the largest exponent.
      odd = _mm256_or_si256(odd, _mm256_cmpgt_epi32(_mm256_castps_si256(sizes), _mm256_set1_epi32(0x7F7FFFFF)));
      largest = _mm256_max_ps(largest, sizes);
    }
    const bool finite = _mm256_testz_si256(odd, odd) != 0;
    Activations& group = to[start / kGroup * stride];
    const float most = largest_of(largest);
    const float inverse = finite && most > 0 ? 127.0f / most : 0.0f;
    group.scale = finite ? most / 127.0f : __builtin_nanf("");
    const __m256i kept = _mm256_set1_epi32(finite ? -1 : 0);
    __m256i sums[4];
    for (int block = 0; block < 4; ++block) {
      __m256i whole[2];
      for (int i = 0; i < 2; ++i) {
        __m256 value = _mm256_mul_ps(_mm256_load_ps(part + block * kBlock + 8 * i), _mm256_set1_ps(inverse));
        value = _mm256_max_ps(_mm256_min_ps(value, _mm256_set1_ps(127.0f)), _mm256_set1_ps(-127.0f));
        whole[i] = _mm256_and_si256(_mm256_cvtps_epi32(value), kept);
      }
      sums[block] = _mm256_add_epi32(whole[0], whole[1]);
      const __m256i halves = _mm256_permute4x64_epi64(_mm256_packs_epi32(whole[0], whole[1]), 0xD8);
      const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(group.values + block * kBlock), bytes);
    }
    const __m256i both = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    const __m128i of_blocks = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(group.block_offsets), _mm_mullo_epi32(of_blocks, _mm_set1_epi32(-12)));
    const __m128i two = _mm_hadd_epi32(of_blocks, of_blocks);
    group.group_offset = -128 * _mm_cvtsi128_si32(_mm_hadd_epi32(two, two));
  }
}

void nvfp4_step(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                int64_t y_stride) {
  if (rows >= kManyRows) return nvfp4_prompt(tiles, factor, x, rows, first, last, y, y_stride);
  y += first * kLanes;
  for (int64_t panel = first; panel < last; ++panel, y += kLanes) {
    const uint8_t* tile = tiles + panel * x.groups * kNvfp4Tile;
    int64_t m = 0;
    for (; m + 4 <= rows; m += 4) {
      nvfp4_rows<Packed, 4>(tile, x, m, 0, 0, x.groups, true, m == 0 ? tile + kAhead : nullptr, y, y_stride);
      nvfp4_rows<Packed, 4>(tile, x, m, 1, 0, x.groups, true, nullptr, y + 8, y_stride);
    }
    if (m + 2 <= rows) nvfp4_few<2>(tile, x, m, m == 0, y, y_stride), m += 2;
    if (m < rows) nvfp4_few<1>(tile, x, m, m == 0, y, y_stride);
    scale_panel(factor, rows, y, y_stride);
  }
}

void nvfp4_prompt(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  alignas(64) uint8_t wide[kPanelGroups * kUnpackedTile];
  y += first * kLanes;
  for (int64_t panel = first; panel < last; ++panel, y += kLanes) {
    for (int64_t group = 0; group < x.groups; group += kPanelGroups) {
      const uint8_t* tile = tiles + (panel * x.groups + group) * kNvfp4Tile;
      const int64_t count = x.groups - group < kPanelGroups ? x.groups - group : kPanelGroups;
      for (int64_t i = 0; i < count; ++i) unpack_tile(tile + i * kNvfp4Tile, wide + i * kUnpackedTile);
      for (int half = 0; half < 2; ++half) {
        const bool starts = group == 0;
        float* to = y + 8 * half;
        int64_t m = 0;
        for (; m + 4 <= rows; m += 4) {
          const uint8_t* ahead = m + half == 0 ? tile + count * kNvfp4Tile : nullptr;
          nvfp4_rows<Unpacked, 4>(wide, x, m, half, group, count, starts, ahead, to, y_stride);
        }
        for (; m < rows; ++m) nvfp4_rows<Unpacked, 1>(wide, x, m, half, group, count, starts, nullptr, to, y_stride);
      }
    }
    scale_panel(factor, rows, y, y_stride);
  }
}

void int8_product(const uint8_t* tiles, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  y += first * kLanes;
  for (int64_t panel = first; panel < last; ++panel, y += kLanes) {
    const uint8_t* tile = tiles + panel * x.groups * kInt8Tile;
    int64_t m = 0;
    for (; m + 4 <= rows; m += 4) int8_rows<4>(tile, x, m, m == 0, y, y_stride);
    if (m + 2 <= rows) int8_rows<2>(tile, x, m, m == 0, y, y_stride), m += 2;
    if (m < rows) int8_rows<1>(tile, x, m, m == 0, y, y_stride);
  }
}

}  // namespace apprentice::avx2_ops
