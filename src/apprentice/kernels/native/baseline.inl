// The products of `baseline.h` for one variant. The including file defines APPRENTICE_VARIANT, and in its namespace:
//
//   Vector, kWidth             a register of floats and how many it holds
//   zero load broadcast store multiply_add
//   low_halves high_halves     kWidth pairs of BF16 weights -> the first, the second of each as float
//   kFloatRows, kBf16Rows      most rows whose sums fit the registers, with float and with BF16 weights
//   kFloatPair, kBf16Pair      most rows whose sums with both panels of a pair do
//   kEagerRows                 for up to so many the processor's own prefetching does better
//
// How a product goes: rows are taken kBlockRows at a time and copied into a stage on the stack, [tile of rows, line of
// K, row], so that a kernel finds its rows behind one address, in order, whatever the stride of x was. For each pair of
// panels, tiles of rows go along K with their sums in registers. Several tiles read the same weights: the first from
// memory, the others from the second-level cache, and each asks for a share of the next pair's, so that memory is never
// idle while the arithmetic is the limit. A single tile of many rows asks kAhead bytes ahead.
//
// Letters as in `baseline.h`.
#include "baseline.h"
#include "declarations.inl"

namespace apprentice::APPRENTICE_VARIANT {
namespace {

constexpr int kLine = 64;                // bytes of activations of one row side by side
constexpr int kStep = 4 * kPair;         // bytes of weights that meet one or two activations of each row
constexpr int kBlockRows = 24;           // rows staged at once
constexpr int kStageBytes = 64 << 10;    // of the stack
constexpr int kPartBytes = 128 << 10;    // most weights that several tiles take turns at
constexpr int kAhead = 16 << 10;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t quotient_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A tile's share of the next weights to be fetched into the second-level cache.
struct Ahead {
  const char* at;
  int64_t step;

  template <int lines>
  void fetch() {
    if constexpr (lines > 0) __builtin_prefetch(at, 0, 2);
    if constexpr (lines > 1) __builtin_prefetch(at + 64, 0, 2);
    if constexpr (lines > 0) at += step;
  }
};

// Where the sums of a tile go: the first output of either panel in row 0.
struct Target {
  float* at[2];
  int64_t stride[2];
};

// R rows x `panels` panels.
template <int R, int panels>
struct Sums {
  static constexpr int kVectors = panels * kLanes / kWidth;
  Vector at[R][kVectors];

  void start(const Target& y, bool zeros) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) at[r][v] = zeros ? zero() : load(place(y, r, v));
    }
  }

  // at[r][v] += weight(v) * value(r). The fewer of both are held in registers.
  template <class Weight, class Value>
  void add(Weight weight, Value value) {
    if constexpr (R < kVectors) {
      Vector values[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) values[r] = value(r);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const Vector one = weight(v);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) at[r][v] = multiply_add(one, values[r], at[r][v]);
      }
    } else {
      Vector weights[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) weights[v] = weight(v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vector one = value(r);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) at[r][v] = multiply_add(weights[v], one, at[r][v]);
      }
    }
  }

  void finish(const Target& y) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) store(place(y, r, v), at[r][v]);
    }
  }

  static float* place(const Target& y, int r, int v) {
    const int panel = v * kWidth / kLanes;
    return y.at[panel] + r * y.stride[panel] + v * kWidth % kLanes;
  }
};

// float weights: a step is one input.
struct Float {
  using Weight = float;
  using Staged = float;
  static constexpr int kInputs = kLine / 4;  // of a line
  static constexpr int kStepInputs = 1;
  static constexpr int kTileRows = kFloatRows;
  static constexpr int kPairRows = kFloatPair;

  template <int R, int panels, int fetches>
  static void tile(const float* w, const float* x, int64_t lines, bool zeros, const Target& y, Ahead ahead) {
    Sums<R, panels> sums;
    sums.start(y, zeros);
    for (int64_t line = 0; line < lines; ++line, x += R * kInputs) {
#pragma GCC unroll 2
      for (int k = 0; k < kInputs; ++k, w += kPair) {
        ahead.fetch<fetches>();
        sums.add([&](int v) { return load(w + v * kWidth); }, [&](int r) { return broadcast(x + r * kInputs + k); });
      }
    }
    sums.finish(y);
  }

  static void stage_line(const float* x, float* to) {
    for (int i = 0; i < kInputs; i += kWidth) store(to + i, load(x + i));
  }
};

#if defined(__AVX512BF16__)

// BF16 weights, activations rounded to BF16: a step is two inputs.
struct Bf16 {
  using Weight = uint16_t;
  using Staged = uint16_t;
  static constexpr int kInputs = kLine / 2;
  static constexpr int kStepInputs = 2;
  static constexpr int kTileRows = kBf16Rows;
  static constexpr int kPairRows = kBf16Pair;

  template <int R, int panels, int fetches>
  static void tile(const uint16_t* w, const uint16_t* x, int64_t lines, bool zeros, const Target& y, Ahead ahead) {
    Sums<R, panels> sums;
    sums.start(y, zeros);
    for (int64_t line = 0; line < lines; ++line, x += R * kInputs) {
#pragma GCC unroll 2
      for (int k = 0; k < kInputs; k += 2, w += 2 * kPair) {
        ahead.fetch<fetches>();
        __m512bh weight[sums.kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < sums.kVectors; ++v) weight[v] = (__m512bh)_mm512_load_si512(w + v * 2 * kWidth);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          int32_t two;
          __builtin_memcpy(&two, x + r * kInputs + k, 4);
          const __m512bh value = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 8
          for (int v = 0; v < sums.kVectors; ++v) sums.at[r][v] = _mm512_dpbf16_ps(sums.at[r][v], weight[v], value);
        }
      }
    }
    sums.finish(y);
  }

  static void stage_line(const float* x, uint16_t* to) {
    _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(load(x + 16), load(x)));
  }
};

#else

// BF16 weights, widened: they are the upper halves of floats.
struct Bf16 {
  using Weight = uint16_t;
  using Staged = float;
  static constexpr int kInputs = kLine / 4;
  static constexpr int kStepInputs = 2;
  static constexpr int kTileRows = kBf16Rows;
  static constexpr int kPairRows = kBf16Pair;

  template <int R, int panels, int fetches>
  static void tile(const uint16_t* w, const float* x, int64_t lines, bool zeros, const Target& y, Ahead ahead) {
    Sums<R, panels> sums;
    sums.start(y, zeros);
    for (int64_t line = 0; line < lines; ++line, x += R * kInputs) {
      for (int k = 0; k < kInputs; k += 2, w += 2 * kPair) {
        ahead.fetch<fetches>();
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          sums.add([&](int v) { return half == 0 ? low_halves(w + v * 2 * kWidth) : high_halves(w + v * 2 * kWidth); },
                   [&](int r) { return broadcast(x + r * kInputs + k + half); });
          // Else the compiler loads everything first and spills sums.
          __asm__ volatile("" ::: "memory");
        }
      }
    }
    sums.finish(y);
  }

  static void stage_line(const float* x, float* to) { Float::stage_line(x, to); }
};

#endif

template <class Format>
using Tile = void (*)(const typename Format::Weight*, const typename Format::Staged*, int64_t, bool, const Target&,
                      Ahead);

template <class Format, int panels, int fetches, int R>
Tile<Format> tile_of(int64_t rows) {
  if constexpr (R > 1) {
    if (rows < R) return tile_of<Format, panels, fetches, R - 1>(rows);
  }
  return Format::template tile<R, panels, fetches>;
}

// Of so many rows by one panel, or by two; fetching ahead or not.
template <class Format>
Tile<Format> tile_of(int64_t rows, int64_t panels, bool fetch) {
  if (panels == 1) return tile_of<Format, 1, 1, Format::kTileRows>(rows);
  if (fetch) return tile_of<Format, 2, 2, Format::kPairRows>(rows);
  return tile_of<Format, 2, 0, Format::kPairRows>(rows);
}

// One row's inputs [first, first + kInputs * lines) to its lines, which are `rows` lines apart. Zeros behind K.
template <class Format>
void stage_row(const float* x, int64_t k, int64_t first, int64_t lines, int64_t rows, typename Format::Staged* to) {
  constexpr int inputs = Format::kInputs;
  for (int64_t line = 0; line < lines; ++line, first += inputs, to += rows * inputs) {
    if (first + inputs <= k) {
      Format::stage_line(x + first, to);
    } else {
      float rest[inputs] = {};
      for (int64_t i = first; i < k; ++i) rest[i - first] = x[i];
      Format::stage_line(rest, to);
    }
  }
}

// A product, and the part of it that is staged: some lines of K of some rows.
template <class Format>
struct Product {
  using Weight = typename Format::Weight;
  using Staged = typename Format::Staged;
  static constexpr int64_t kLineSteps = Format::kInputs / Format::kStepInputs;
  static constexpr int64_t kLineWeights = Format::kInputs * kPair;

  const Weight* weights;
  int64_t k;
  const float* x;
  int64_t x_stride, first, last;
  float* y;
  int64_t y_stride;
  Staged* staged;
  float* unused;  // sums of a panel that nobody asked for

  int64_t lines = 0;  // of K
  int64_t from_line = 0, part_lines = 0, from_row = 0, block_rows = 0, panels = 0, num_tiles = 0;

  void run(int64_t rows) {
    if (rows == 0) return;
    lines = quotient_up(k, kBaselineInputs) * kBaselineInputs / Format::kInputs;
    int64_t most_lines = kStageBytes / kLine / smaller(rows, kBlockRows);
    if (rows > Format::kPairRows) most_lines = smaller(most_lines, kPartBytes / (kLineSteps * kStep));
    const int64_t num_parts = quotient_up(lines, most_lines), num_blocks = quotient_up(rows, kBlockRows);
    for (int64_t part = 0; part < num_parts; ++part) {
      from_line = lines * part / num_parts;
      part_lines = lines * (part + 1) / num_parts - from_line;
      for (int64_t block = 0; block < num_blocks; ++block) {
        from_row = rows * block / num_blocks;
        block_rows = rows * (block + 1) / num_blocks - from_row;
        // Both panels at once make more independent sums of few rows; one panel is read less often for many.
        panels = block_rows <= 3 * Format::kPairRows ? 2 : 1;
        num_tiles = quotient_up(block_rows, panels == 2 ? Format::kPairRows : Format::kTileRows);
        stage();
        for (int64_t pair = first / 2; 2 * pair < last; ++pair) multiply(pair);
      }
    }
  }

  int64_t begin_of(int64_t tile) const { return block_rows * tile / num_tiles; }
  Staged* stage_of(int64_t tile) { return staged + begin_of(tile) * part_lines * Format::kInputs; }

  void stage() {
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
      const int64_t begin = begin_of(tile), end = begin_of(tile + 1);
      for (int64_t row = begin; row < end; ++row) {
        stage_row<Format>(x + (from_row + row) * x_stride, k, from_line * Format::kInputs, part_lines, end - begin,
                          stage_of(tile) + (row - begin) * Format::kInputs);
      }
    }
  }

  void multiply(int64_t pair) {
    const Weight* w = weights + (pair * lines + from_line) * kLineWeights;
    const int64_t num_turns = num_tiles * 2 / panels;
    const char* next = reinterpret_cast<const char*>(w + (num_turns == 1 ? 0 : lines * kLineWeights));
    const int64_t share = quotient_up(kStep, num_turns);
    int64_t turn = 0;
    for (int64_t half = 0; half < 2; half += panels) {
      for (int64_t tile = 0; tile < num_tiles; ++tile, ++turn) {
        const Ahead ahead = {next + (num_turns == 1 ? kAhead : turn * share * part_lines * kLineSteps), share};
        const int64_t begin = begin_of(tile), num_rows = begin_of(tile + 1) - begin;
        Target target = {};
        for (int64_t i = 0; i < panels; ++i) {
          const int64_t panel = 2 * pair + half + i;
          const bool asked = panel >= first && panel < last;
          target.at[i] = asked ? y + (from_row + begin) * y_stride + panel * kLanes : unused;
          target.stride[i] = asked ? y_stride : kLanes;
        }
        const auto multiply_tile = tile_of<Format>(num_rows, panels, num_turns > 1 || num_rows > kEagerRows);
        multiply_tile(w + half * kLanes * Format::kStepInputs, stage_of(tile), part_lines, from_line == 0, target,
                                  ahead);
      }
    }
  }
};

}  // namespace

void float_product(const float* weights, int64_t k, const float* x, int64_t x_stride, int64_t rows, int64_t first,
                   int64_t last, float* y, int64_t y_stride) {
  alignas(64) float staged[kStageBytes / sizeof(float)], unused[kFloatRows * kLanes];
  Product<Float>{weights, k, x, x_stride, first, last, y, y_stride, staged, unused}.run(rows);
}

void bf16_product(const uint16_t* weights, int64_t k, const float* x, int64_t x_stride, int64_t rows, int64_t first,
                  int64_t last, float* y, int64_t y_stride) {
  alignas(64) Bf16::Staged staged[kStageBytes / sizeof(Bf16::Staged)];
  alignas(64) float unused[kBf16Rows * kLanes];
  Product<Bf16>{weights, k, x, x_stride, first, last, y, y_stride, staged, unused}.run(rows);
}

}  // namespace apprentice::APPRENTICE_VARIANT
