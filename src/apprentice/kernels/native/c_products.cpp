#include "c_products.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "cpu.h"
#include "pool.h"
#include "tiles.h"

using namespace apprentice;

namespace {

constexpr int kPrompt = 1, kInt8 = 2;
constexpr int64_t kPieceBytes = 64 << 10;
constexpr int64_t kPiecesPerThread = 4;
constexpr int64_t kRowsWorth = 16;

int64_t tile_bytes(int kind) { return kind == kInt8 ? kInt8Tile : kNvfp4Tile; }
int64_t groups_of(int64_t inputs) { return round_up(inputs, kGroup) / kGroup; }
int64_t panels_of(int64_t outputs) { return round_up(outputs, kLanes) / kLanes; }

void multiply(Pool& pool, const Operators& operators, const ApprenticeProduct& p, std::vector<Activations>& records) {
  const int64_t groups = groups_of(p.inputs), panels = panels_of(p.outputs), width = panels * kLanes;
  records.resize(std::max(records.size(), size_t(groups * p.rows)));
  const auto quantize = [&](int64_t m, int) { operators.quantize(p.x + m * p.inputs, p.inputs, records.data() + m, p.rows); };
  if (p.rows < kRowsWorth) {
    for (int64_t m = 0; m < p.rows; ++m) quantize(m, 0);
  } else {
    pool.run(p.rows, std::cref(quantize));
  }
  const Quantized x{records.data(), groups, p.rows};
  const int64_t wanted = panels * groups * tile_bytes(p.kind) / kPieceBytes;
  const int64_t pairs = (panels + 1) / 2, count = std::min(std::max(wanted, pool.threads() * kPiecesPerThread), pairs);
  const auto piece = [&](int64_t i, int) {
    const int64_t first = pairs * i / count * 2, last = std::min(pairs * (i + 1) / count * 2, panels);
    if (p.kind == kInt8) {
      operators.int8_product(p.tiles, x, p.rows, first, last, p.y, width);
    } else {
      const auto product = p.kind == kPrompt ? operators.nvfp4_prompt : operators.nvfp4_step;
      product(p.tiles, p.factor, x, p.rows, first, last, p.y, width);
    }
  };
  pool.run(count, std::cref(piece));
}

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

int64_t apprentice_products(void* pool, const char* variant, const ApprenticeProduct* products, int64_t count) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr) return -1;
  std::vector<Activations> records;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < count; ++i) multiply(*static_cast<Pool*>(pool), *operators, products[i], records);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count();
}
