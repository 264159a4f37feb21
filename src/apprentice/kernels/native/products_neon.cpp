// The products with 128-bit registers and 8-bit dot products: NEON with `sdot` (Armv8.2, dotprod).
//
//   nibbles --tbl--> 4 outputs x 4 weights of 8 bits --sdot with 4 activations--> 4 sums of a block of 16 inputs, exact
//           --x scale of the block--> float sums of 64 inputs --x scale of the activations--> y
//
// Both sides of sdot are signed, so no offsets are needed. A quarter of a tile (4 outputs) is worked on at a time, with up to
// 4 rows of activations, each with sums of its own in the same order. Letters as in operators.h.
#define APPRENTICE_VARIANT neon_ops
#include "declarations.inl"

#include <arm_neon.h>

#include "tiles.h"

namespace apprentice::neon_ops {
namespace {

constexpr int kPanelGroups = 16;
constexpr int kQuarters = 4;
constexpr int kUnpackedTile = kLanes * kGroup + 4 * kLanes * 4;
// 8-bit weights in the order of the tile, then 4 x 16 float scales.

inline int8x16_t doubled_values() {
  static constexpr int8_t table[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  return vld1q_s8(table);
}

inline float32x4_t scales_of(const uint8_t* codes) {
  uint32_t four;
  __builtin_memcpy(&four, codes, 4);
  const uint16x8_t wide = vmovl_u8(vcreate_u8(four));
  const uint32x4_t bits = vshlq_n_u32(vmovl_u16(vget_low_u16(wide)), 20);
  return vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(uint32_t(kFloatBias) << 23)));
}

// A quarter of a block: outputs [4 quarter, 4 quarter + 4) of a tile, inputs [16 block, 16 block + 16).
struct Packed {
  static constexpr int kBytes = kNvfp4Tile;
  static inline void weights(const uint8_t* tile, int block, int quarter, int8x16_t w[4]) {
    const int8x16_t table = doubled_values();
    const uint8x16_t low = vld1q_u8(tile + block * 128 + quarter * 16), high = vld1q_u8(tile + block * 128 + 64 + quarter * 16);
    w[0] = vqtbl1q_s8(table, vandq_u8(low, vdupq_n_u8(15)));
    w[1] = vqtbl1q_s8(table, vshrq_n_u8(low, 4));
    w[2] = vqtbl1q_s8(table, vandq_u8(high, vdupq_n_u8(15)));
    w[3] = vqtbl1q_s8(table, vshrq_n_u8(high, 4));
  }
  static inline float32x4_t scales(const uint8_t* tile, int block, int quarter) {
    return scales_of(tile + 512 + block * 16 + quarter * 4);
  }
};

struct Unpacked {
  static constexpr int kBytes = kUnpackedTile;
  static inline void weights(const uint8_t* tile, int block, int quarter, int8x16_t w[4]) {
    for (int i = 0; i < 4; ++i) w[i] = vld1q_s8(reinterpret_cast<const int8_t*>(tile) + (block * 4 + i) * 64 + quarter * 16);
  }
  static inline float32x4_t scales(const uint8_t* tile, int block, int quarter) {
    return vld1q_f32(reinterpret_cast<const float*>(tile + kLanes * kGroup) + block * kLanes + quarter * 4);
  }
};

inline void unpack_tile(const uint8_t* tile, uint8_t* out) {
  for (int block = 0; block < 4; ++block) {
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      int8x16_t w[4];
      Packed::weights(tile, block, quarter, w);
      for (int i = 0; i < 4; ++i) vst1q_s8(reinterpret_cast<int8_t*>(out) + (block * 4 + i) * 64 + quarter * 16, w[i]);
      float* scales = reinterpret_cast<float*>(out + kLanes * kGroup) + block * kLanes + quarter * 4;
      vst1q_f32(scales, Packed::scales(tile, block, quarter));
    }
  }
}

// Groups [group, group + count) of a quarter panel; goes on from what stands in y unless it `starts`.
template <class Source, int R>
inline void nvfp4_rows(const uint8_t* tile, const Quantized& x, int64_t m, int quarter, int64_t group, int64_t count,
                       bool starts, float* y, int64_t y_stride) {
  float32x4_t total[R];
  for (int r = 0; r < R; ++r) total[r] = starts ? vdupq_n_f32(0) : vld1q_f32(y + (m + r) * y_stride);
  const Activations* from = x.at + group * x.stride + m;
  for (int64_t g = 0; g < count; ++g, tile += Source::kBytes, from += x.stride) {
    float32x4_t sum[R];
    for (int r = 0; r < R; ++r) sum[r] = vdupq_n_f32(0);
    for (int block = 0; block < 4; ++block) {
      int8x16_t w[4];
      Source::weights(tile, block, quarter, w);
      const float32x4_t scales = Source::scales(tile, block, quarter);
      for (int r = 0; r < R; ++r) {
        const int8x16_t values = vld1q_s8(from[r].values + block * kBlock);
        int32x4_t products = vdotq_laneq_s32(vdupq_n_s32(0), w[0], values, 0);
        products = vdotq_laneq_s32(products, w[1], values, 1);
        products = vdotq_laneq_s32(products, w[2], values, 2);
        products = vdotq_laneq_s32(products, w[3], values, 3);
        sum[r] = vfmaq_f32(sum[r], vcvtq_f32_s32(products), scales);
      }
    }
    for (int r = 0; r < R; ++r) total[r] = vfmaq_n_f32(total[r], sum[r], from[r].scale);
  }
  for (int r = 0; r < R; ++r) vst1q_f32(y + (m + r) * y_stride, total[r]);
}

template <class Source>
void nvfp4_panel(const uint8_t* tile, const Quantized& x, int64_t rows, int64_t group, int64_t count, bool starts, float* y,
                 int64_t y_stride) {
  for (int quarter = 0; quarter < kQuarters; ++quarter, y += 4) {
    int64_t m = 0;
    for (; m + 4 <= rows; m += 4) nvfp4_rows<Source, 4>(tile, x, m, quarter, group, count, starts, y, y_stride);
    if (m + 2 <= rows) nvfp4_rows<Source, 2>(tile, x, m, quarter, group, count, starts, y, y_stride), m += 2;
    if (m < rows) nvfp4_rows<Source, 1>(tile, x, m, quarter, group, count, starts, y, y_stride);
  }
}

inline void scale_panel(float factor, int64_t rows, float* y, int64_t y_stride) {
  for (int64_t m = 0; m < rows; ++m, y += y_stride) {
    for (int i = 0; i < kLanes; i += 4) vst1q_f32(y + i, vmulq_n_f32(vld1q_f32(y + i), 0.5f * factor));
  }
}

template <int R>
inline void int8_rows(const uint8_t* tile, const Quantized& x, int64_t m, int quarter, float* y, int64_t y_stride) {
  float32x4_t total[R];
  for (int r = 0; r < R; ++r) total[r] = vdupq_n_f32(0);
  const Activations* from = x.at + m;
  for (int64_t g = 0; g < x.groups; ++g, tile += kInt8Tile, from += x.stride) {
    int32x4_t products[R];
    for (int r = 0; r < R; ++r) products[r] = vdupq_n_s32(0);
    for (int block = 0; block < 4; ++block) {
      int8x16_t w[4];
      for (int i = 0; i < 4; ++i) {
        w[i] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(tile + (block * 4 + i) * 64 + quarter * 16), vdupq_n_u8(128)));
      }
      for (int r = 0; r < R; ++r) {
        const int8x16_t values = vld1q_s8(from[r].values + block * kBlock);
        products[r] = vdotq_laneq_s32(products[r], w[0], values, 0);
        products[r] = vdotq_laneq_s32(products[r], w[1], values, 1);
        products[r] = vdotq_laneq_s32(products[r], w[2], values, 2);
        products[r] = vdotq_laneq_s32(products[r], w[3], values, 3);
      }
    }
    const float32x4_t scales = vld1q_f32(reinterpret_cast<const float*>(tile + kLanes * kGroup) + quarter * 4);
    for (int r = 0; r < R; ++r) {
      total[r] = vfmaq_f32(total[r], vcvtq_f32_s32(products[r]), vmulq_n_f32(scales, from[r].scale));
    }
  }
  for (int r = 0; r < R; ++r) vst1q_f32(y + (m + r) * y_stride, total[r]);
}

}  // namespace

void quantize(const float* x, int64_t k, Activations* to, int64_t stride) {
  for (int64_t start = 0; start < k; start += kGroup) {
    alignas(16) float part[kGroup] = {};
    const int64_t size = k - start < kGroup ? k - start : kGroup;
    __builtin_memcpy(part, x + start, size_t(size) * sizeof(float));
    float32x4_t largest = vdupq_n_f32(0);
    uint32x4_t exponents = vdupq_n_u32(0);
    for (int i = 0; i < kGroup; i += 4) {
      const float32x4_t sizes = vabsq_f32(vld1q_f32(part + i));
      // NaN and infinity have the largest exponent.
      exponents = vmaxq_u32(exponents, vreinterpretq_u32_f32(sizes));
      largest = vmaxnmq_f32(largest, sizes);
    }
    const bool finite = vmaxvq_u32(exponents) <= 0x7F7FFFFF;
    Activations& group = to[start / kGroup * stride];
    const float most = vmaxvq_f32(largest);
    const float inverse = finite && most > 0 ? 127.0f / most : 0.0f;
    group.scale = finite ? most / 127.0f : __builtin_nanf("");
    int total = 0;
    for (int block = 0; block < 4; ++block) {
      int32x4_t sums = vdupq_n_s32(0);
      for (int i = block * kBlock; i < (block + 1) * kBlock; i += 4) {
        float32x4_t value = vmulq_n_f32(vld1q_f32(part + i), inverse);
        value = vmaxq_f32(vminq_f32(value, vdupq_n_f32(127.0f)), vdupq_n_f32(-127.0f));
        const int32x4_t whole = finite ? vcvtnq_s32_f32(value) : vdupq_n_s32(0);
        sums = vaddq_s32(sums, whole);
        for (int j = 0; j < 4; ++j) group.values[i + j] = int8_t(reinterpret_cast<const int32_t*>(&whole)[j]);
      }
      const int sum = vaddvq_s32(sums);
      group.block_offsets[block] = -12 * sum;
      total += sum;
    }
    group.group_offset = -128 * total;
  }
}

void nvfp4_step(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                int64_t y_stride) {
  for (int64_t panel = first; panel < last; ++panel) {
    nvfp4_panel<Packed>(tiles + panel * x.groups * kNvfp4Tile, x, rows, 0, x.groups, true, y + panel * kLanes, y_stride);
    scale_panel(factor, rows, y + panel * kLanes, y_stride);
  }
}

void nvfp4_prompt(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  alignas(64) uint8_t wide[kPanelGroups * kUnpackedTile];
  for (int64_t panel = first; panel < last; ++panel) {
    for (int64_t group = 0; group < x.groups; group += kPanelGroups) {
      const int64_t count = x.groups - group < kPanelGroups ? x.groups - group : kPanelGroups;
      for (int64_t i = 0; i < count; ++i) {
        unpack_tile(tiles + (panel * x.groups + group + i) * kNvfp4Tile, wide + i * kUnpackedTile);
      }
      nvfp4_panel<Unpacked>(wide, x, rows, group, count, group == 0, y + panel * kLanes, y_stride);
    }
    scale_panel(factor, rows, y + panel * kLanes, y_stride);
  }
}

void int8_product(const uint8_t* tiles, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  for (int64_t panel = first; panel < last; ++panel) {
    const uint8_t* tile = tiles + panel * x.groups * kInt8Tile;
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      float* to = y + panel * kLanes + quarter * 4;
      int64_t m = 0;
      for (; m + 4 <= rows; m += 4) int8_rows<4>(tile, x, m, quarter, to, y_stride);
      if (m + 2 <= rows) int8_rows<2>(tile, x, m, quarter, to, y_stride), m += 2;
      if (m < rows) int8_rows<1>(tile, x, m, quarter, to, y_stride);
    }
  }
}

}  // namespace apprentice::neon_ops
