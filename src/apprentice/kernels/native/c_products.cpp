#include "c_products.h"

#include <algorithm>
#include <vector>

#include "cpu.h"
#include "pool.h"
#include "tiles.h"

using namespace apprentice;

namespace {

constexpr int kInt8 = 2;
constexpr int64_t kPieceBytes = 64 << 10;

int64_t tile_bytes(int kind) { return kind == kInt8 ? kInt8Tile : kNvfp4Tile; }
int64_t groups_of(int64_t inputs) { return round_up(inputs, kGroup) / kGroup; }
int64_t panels_of(int64_t outputs) { return round_up(outputs, kLanes) / kLanes; }

}  // namespace

int64_t apprentice_tiles_bytes(int kind, int64_t outputs, int64_t inputs) {
  return panels_of(outputs) * groups_of(inputs) * tile_bytes(kind);
}

void apprentice_tiles_clear(int kind, int64_t outputs, int64_t inputs, uint8_t* tiles) {
  (kind == kInt8 ? clear_int8 : clear_nvfp4)(tiles, panels_of(outputs) * groups_of(inputs));
}

void apprentice_tiles_pack_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t count, int64_t inputs, int64_t first,
                                 uint8_t* tiles) {
  pack_nvfp4(codes, scales, count, inputs, first, tiles);
}

void apprentice_tiles_pack_mxfp4(const uint8_t* codes, const uint8_t* scales, int largest, int64_t count, int64_t inputs,
                                 int64_t first, uint8_t* tiles) {
  pack_mxfp4(codes, scales, uint8_t(largest), count, inputs, first, tiles);
}

void apprentice_tiles_pack_int8(const float* weights, int64_t count, int64_t inputs, int64_t first, uint8_t* tiles) {
  pack_int8(weights, count, inputs, first, tiles);
}

int apprentice_quantize(const char* variant, const float* x, int64_t rows, int64_t inputs, uint8_t* records) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr) return -1;
  Activations* to = reinterpret_cast<Activations*>(records);
  for (int64_t m = 0; m < rows; ++m) operators->quantize(x + m * inputs, inputs, to + m, rows);
  return 0;
}

int apprentice_product(void* pool, const char* variant, int kind, const uint8_t* tiles, float factor, int64_t outputs,
                       int64_t inputs, const float* x, int64_t rows, float* y) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr) return -1;
  const int64_t groups = groups_of(inputs), panels = panels_of(outputs), width = panels * kLanes;
  std::vector<Activations> records(size_t(groups * rows));
  for (int64_t m = 0; m < rows; ++m) operators->quantize(x + m * inputs, inputs, records.data() + m, rows);
  const Quantized quantized{records.data(), groups, rows};
  const int64_t step = std::max<int64_t>(1, kPieceBytes / (groups * tile_bytes(kind)));
  static_cast<Pool*>(pool)->run((panels + step - 1) / step, [&](int64_t piece, int) {
    const int64_t first = piece * step, last = std::min(first + step, panels);
    if (kind == kInt8) {
      operators->int8_product(tiles, quantized, rows, first, last, y, width);
    } else {
      (kind == 0 ? operators->nvfp4_step : operators->nvfp4_prompt)(tiles, factor, quantized, rows, first, last, y, width);
    }
  });
  return 0;
}
