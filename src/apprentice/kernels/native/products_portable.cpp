// The products in plain C++: what every machine runs, and what the other variants are read against.
#define APPRENTICE_VARIANT portable_ops
#include "declarations.inl"

#include <cmath>
#include <cstring>

#include "tiles.h"

namespace apprentice::portable_ops {
namespace {

// Twice the value of a code of E2M1.
constexpr int8_t kDoubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float scale_of(uint8_t code) {
  const uint32_t bits = (uint32_t(code) << 20) + (uint32_t(kFloatBias) << 23);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

void quantize(const float* x, int64_t k, Activations* to, int64_t stride) {
  for (int64_t start = 0; start < k; start += kGroup) {
    const int64_t size = k - start < kGroup ? k - start : kGroup;
    float largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < size; ++i) {
      const float absolute = std::fabs(x[start + i]);
      largest = absolute > largest ? absolute : largest;
      finite = finite && std::isfinite(absolute);
    }
    Activations& group = to[start / kGroup * stride];
    const float inverse = finite && largest > 0 ? 127 / largest : 0;
    group.scale = finite ? largest / 127 : NAN;
    group.group_offset = 0;
    for (int block = 0; block < kGroup / kBlock; ++block) {
      int sum = 0;
      for (int i = block * kBlock; i < (block + 1) * kBlock; ++i) {
        const float scaled = i < size && finite ? x[start + i] * inverse : 0;
        // A number near FLT_MIN has an infinite inverse; its product is out of range.
        const int value = int(std::nearbyint(std::fmin(std::fmax(scaled, -127.0f), 127.0f)));
        group.values[i] = int8_t(value);
        sum += value;
      }
      group.block_offsets[block] = -12 * sum;
      group.group_offset -= 128 * sum;
    }
  }
}

void nvfp4_step(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                int64_t y_stride) {
  for (int64_t panel = first; panel < last; ++panel) {
    for (int64_t m = 0; m < rows; ++m) {
      float total[kLanes] = {};
      for (int64_t group = 0; group < x.groups; ++group) {
        const uint8_t* tile = tiles + (panel * x.groups + group) * kNvfp4Tile;
        const Activations& from = x.at[group * x.stride + m];
        float sum[kLanes] = {};
        for (int block = 0; block < 4; ++block) {
          const uint8_t* nibbles = tile + block * 128;
          for (int lane = 0; lane < kLanes; ++lane) {
            int products = 0;
            for (int i = 0; i < kBlock; ++i) {
              const uint8_t byte = nibbles[i / 8 * 64 + 4 * lane + i % 4];
              products += kDoubled[i % 8 < 4 ? byte & 15 : byte >> 4] * from.values[block * kBlock + i];
            }
            sum[lane] += float(products) * scale_of(tile[512 + block * 16 + lane]);
          }
        }
        for (int lane = 0; lane < kLanes; ++lane) total[lane] += sum[lane] * from.scale;
      }
      for (int lane = 0; lane < kLanes; ++lane) y[m * y_stride + panel * kLanes + lane] = total[lane] * (0.5f * factor);
    }
  }
}

void nvfp4_prompt(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  nvfp4_step(tiles, factor, x, rows, first, last, y, y_stride);
}

void int8_product(const uint8_t* tiles, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride) {
  for (int64_t panel = first; panel < last; ++panel) {
    for (int64_t m = 0; m < rows; ++m) {
      float total[kLanes] = {};
      for (int64_t group = 0; group < x.groups; ++group) {
        const uint8_t* tile = tiles + (panel * x.groups + group) * kInt8Tile;
        const Activations& from = x.at[group * x.stride + m];
        const float* weight_scales = reinterpret_cast<const float*>(tile + kLanes * kGroup);
        for (int lane = 0; lane < kLanes; ++lane) {
          int products = from.group_offset;
          for (int i = 0; i < kGroup; ++i) products += int(tile[i / 4 * 64 + 4 * lane + i % 4]) * from.values[i];
          total[lane] += float(products) * (weight_scales[lane] * from.scale);
        }
      }
      for (int lane = 0; lane < kLanes; ++lane) y[m * y_stride + panel * kLanes + lane] = total[lane];
    }
  }
}

}  // namespace apprentice::portable_ops
