#include "c_baseline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "baseline.h"
#include "cpu.h"
#include "limits.h"
#include "pool.h"
#include "tiles.h"

using namespace apprentice;

namespace {

constexpr int kBf16 = 1;
// Pairs of panels of a piece, and rows where there are many: staging x for a piece costs some percent of a pair.
constexpr int64_t kStepPairs = 4;
constexpr int64_t kPromptPairs = 8;
constexpr int64_t kPromptRows = 64;
constexpr int64_t kFewRows = 32;
constexpr int64_t kPiecesPerThread = 4;

using Clock = std::chrono::steady_clock;

int64_t since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

// How a product is cut: into row_pieces x pair_pieces.
struct Cut {
  int64_t row_pieces, pair_pieces;
};

Cut cut_of(int64_t rows, int64_t pairs, int64_t threads) {
  const int64_t row_pieces = rows <= kFewRows ? 1 : round_up(rows, kPromptRows) / kPromptRows;
  const int64_t least = round_up(threads * kPiecesPerThread, row_pieces) / row_pieces;
  const int64_t pair_pieces = std::max(pairs / (rows <= kFewRows ? kStepPairs : kPromptPairs), least);
  return {row_pieces, std::min(pair_pieces, pairs)};
}

void product(Pool& pool, const Operators& operators, int kind, const ApprenticeBaselineProduct& p) {
  const int64_t width = round_up(p.outputs, kLanes), panels = width / kLanes, pairs = round_up(panels, 2) / 2;
  const Cut cut = cut_of(p.rows, pairs, pool.threads());
  const int64_t count = cut.row_pieces * cut.pair_pieces;
  pool.run(count, [&](int64_t piece, int) {
    const int64_t row_piece = piece / cut.pair_pieces, pair_piece = piece % cut.pair_pieces;
    const int64_t begin = p.rows * row_piece / cut.row_pieces, rows = p.rows * (row_piece + 1) / cut.row_pieces - begin;
    const int64_t first = pairs * pair_piece / cut.pair_pieces * 2;
    const int64_t last = std::min(pairs * (pair_piece + 1) / cut.pair_pieces * 2, panels);
    const float* x = p.x + begin * p.inputs;
    float* y = p.y + begin * width;
    if (kind == kBf16) {
      const auto* packed = static_cast<const uint16_t*>(p.packed);
      operators.bf16_product(packed, p.inputs, x, p.inputs, rows, first, last, y, width);
    } else {
      const auto* packed = static_cast<const float*>(p.packed);
      operators.float_product(packed, p.inputs, x, p.inputs, rows, first, last, y, width);
    }
  });
}

const Limits* find_limits(const char* variant) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr) return nullptr;
#if defined(APPRENTICE_WITH_AVX512)
  if (std::strcmp(variant, "avx512") == 0) return &avx512_limits();
#endif
#if defined(APPRENTICE_WITH_AVX2)
  if (std::strcmp(variant, "avx2") == 0) return &avx2_limits();
#endif
  return &portable_limits();  // on NEON the compiler makes of it what one would write by hand
}

}  // namespace

int64_t apprentice_baseline_size(int64_t outputs, int64_t inputs) { return baseline_size(outputs, inputs); }

void apprentice_baseline_pack(int kind, const void* weights, int64_t count, int64_t inputs, int64_t first,
                              void* packed) {
  if (kind == kBf16) {
    pack_bf16(static_cast<const uint16_t*>(weights), count, inputs, first, static_cast<uint16_t*>(packed));
  } else {
    pack_float(static_cast<const float*>(weights), count, inputs, first, static_cast<float*>(packed));
  }
}

int64_t apprentice_baseline_products(void* pool, const char* variant, int kind,
                                     const ApprenticeBaselineProduct* products, int64_t count) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr) return -1;
  const auto start = Clock::now();
  for (int64_t i = 0; i < count; ++i) product(*static_cast<Pool*>(pool), *operators, kind, products[i]);
  return since(start);
}

int64_t apprentice_limit_read(void* pool, const char* variant, const void* from, int64_t bytes, int64_t piece) {
  const Limits* limits = find_limits(variant);
  if (limits == nullptr) return -1;
  std::atomic<uint32_t> sum{0};  // so that the compiler must read
  const int64_t count = (bytes + piece - 1) / piece;
  const auto start = Clock::now();
  static_cast<Pool*>(pool)->run(count, [&](int64_t i, int) {
    sum ^= limits->read(static_cast<const char*>(from) + i * piece, std::min(piece, bytes - i * piece));
  });
  return since(start);
}

int64_t apprentice_limit_operations(void* pool, const char* variant, int kind, int64_t pieces, int64_t turns,
                                    int64_t* operations) {
  const Limits* limits = find_limits(variant);
  if (limits == nullptr) return -1;
  const auto loop = kind == 0   ? limits->float_operations
                    : kind == 1 ? limits->bf16_operations
                                : limits->int8_operations;
  if (loop == nullptr) return -1;
  std::atomic<int64_t> done{0};
  const auto start = Clock::now();
  static_cast<Pool*>(pool)->run(pieces, [&](int64_t, int) { done += loop(turns); });
  *operations = done;
  return since(start);
}
