#include "tiles.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace apprentice {
namespace {

// E4M3 above zero -> E5M3, exact.
uint8_t widened(uint8_t e4m3) {
  const int exponent = (e4m3 >> 3) & 15, mantissa = e4m3 & 7;
  if (exponent != 0) return uint8_t(((exponent - 7 + kScaleBias) << 3) | mantissa);
  // mantissa * 2^-9: the leading bit becomes the implicit one.
  const int top = mantissa >= 4 ? 2 : mantissa >= 2 ? 1 : 0;
  return uint8_t(((top - 9 + kScaleBias) << 3) | ((mantissa << (3 - top)) & 7));
}

// 16 weights of one output: 8 bytes of codes, low nibble first, and their scale.
void place(const uint8_t* pairs, uint8_t scale, int64_t k, int64_t output, int64_t block, uint8_t* tiles) {
  const int64_t groups = round_up(k, kGroup) / kGroup, lane = output % kLanes;
  uint8_t* tile = tiles + (output / kLanes * groups + block / 4) * kNvfp4Tile;
  uint8_t* nibbles = tile + block % 4 * 128 + 4 * lane;
  tile[512 + block % 4 * 16 + lane] = scale;
  for (int half = 0; half < 2; ++half, pairs += 4, nibbles += 64) {
    // Four bytes hold inputs (0 1) (2 3) (4 5) (6 7).
    nibbles[0] = uint8_t((pairs[0] & 15) | (pairs[2] << 4));
    nibbles[1] = uint8_t((pairs[0] >> 4) | (pairs[2] & 0xF0));
    nibbles[2] = uint8_t((pairs[1] & 15) | (pairs[3] << 4));
    nibbles[3] = uint8_t((pairs[1] >> 4) | (pairs[3] & 0xF0));
  }
}

}  // namespace

void clear_nvfp4(uint8_t* tiles, int64_t num_tiles) { std::memset(tiles, 0, size_t(num_tiles * kNvfp4Tile)); }

void clear_int8(uint8_t* tiles, int64_t num_tiles) {
  for (int64_t t = 0; t < num_tiles; ++t) {
    std::memset(tiles + t * kInt8Tile, 128, kLanes * kGroup);
    std::memset(tiles + t * kInt8Tile + kLanes * kGroup, 0, kLanes * sizeof(float));
  }
}

void pack_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t count, int64_t k, int64_t first, uint8_t* tiles) {
  const int64_t blocks = k / kBlock;
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t block = 0; block < blocks; ++block, codes += kBlock / 2, ++scales) {
      if (*scales != 0) place(codes, widened(*scales), k, first + row, block, tiles);
    }
  }
}

void pack_int8(const float* weights, int64_t count, int64_t k, int64_t first, uint8_t* tiles) {
  const int64_t groups = round_up(k, kGroup) / kGroup;
  for (int64_t row = 0; row < count; ++row) {
    const int64_t output = first + row, lane = output % kLanes;
    for (int64_t group = 0; group < groups; ++group) {
      const float* from = weights + row * k + group * kGroup;
      const int64_t size = k - group * kGroup < kGroup ? k - group * kGroup : kGroup;
      uint8_t* tile = tiles + (output / kLanes * groups + group) * kInt8Tile;
      float largest = 0;
      for (int64_t i = 0; i < size; ++i) largest = std::fmax(largest, std::fabs(from[i]));
      // Of less than that 127 / largest is infinite.
      const bool is_some = largest > 127 / std::numeric_limits<float>::max();
      const float scale = is_some ? largest / 127 : 0, inverse = is_some ? 127 / largest : 0;
      reinterpret_cast<float*>(tile + kLanes * kGroup)[lane] = scale;
      for (int64_t i = 0; i < size; ++i) {
        tile[i / 4 * 64 + 4 * lane + i % 4] = uint8_t(128 + int(std::nearbyint(from[i] * inverse)));
      }
    }
  }
}

void unpack_int8_row(const uint8_t* tiles, int64_t k, int64_t output, float* row) {
  const int64_t groups = round_up(k, kGroup) / kGroup, lane = output % kLanes;
  for (int64_t i = 0; i < k; ++i) {
    const uint8_t* tile = tiles + (output / kLanes * groups + i / kGroup) * kInt8Tile;
    const int64_t j = i % kGroup;
    const float scale = reinterpret_cast<const float*>(tile + kLanes * kGroup)[lane];
    row[i] = float(int(tile[j / 4 * 64 + 4 * lane + j % 4]) - 128) * scale;
  }
}

}  // namespace apprentice
