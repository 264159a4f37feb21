// What a variant (portable, avx2, avx512, neon) implements: one table of plain functions, all single-threaded.
//
// A variant is one source file compiled for one instruction set; `cpu.cpp` picks the best that this machine runs. Who
// calls these functions cuts the work into pieces and hands them to `Pool`. Every function computes a row (a token) in an
// order that does not depend on how many rows there are: results are batch-invariant, bit for bit.
//
// Letters: M rows of activations (tokens), O outputs, K inputs of a matrix, P pieces of 16 outputs.
#pragma once
#include <cstddef>
#include <cstdint>

namespace apprentice {

constexpr int kLanes = 16;        // outputs of a tile: one SIMD lane each
constexpr int kBlock = 16;        // inputs that share an NVFP4 scale
constexpr int kGroup = 64;        // inputs of a tile, and inputs that share an activation scale; K is padded to a multiple
constexpr int kNvfp4Tile = 576;   // bytes: 16 x 64 nibbles, then 4 x 16 scales; see `tiles.h`
constexpr int kInt8Tile = 1088;   // bytes: 16 x 64 weights, then 16 float scales
constexpr int kPage = 64;         // tokens of a page of the KV cache
constexpr int kMaxHead = 1024;    // most values of a head

// Halves that a page's keys, or values, of one key head take: E values a token in 16 bits, or in 8 with a float scale.
constexpr int64_t page_block(int64_t head_size, bool in_bytes) {
  const int64_t values = (head_size + 15) / 16 * 16 * kPage;
  return in_bytes ? values / 2 + 2 * kPage : values;
}

// 64 activations of one row in 8 bits. What belongs together lies together, so that a kernel needs one address for all
// rows of a group. With a value that is not finite all values are 0 and the scale is NaN.
struct Activations {
  int8_t values[kGroup];                     // -127 to 127, zeros behind K; x[k] is about values[k] * scale
  // Where sums begin: NVFP4 weights are stored plus 12, 8-bit weights plus 128. What a variant adds besides is its own affair.
  int32_t block_offsets[kGroup / kBlock];    // -12 times the sum of a block
  int32_t group_offset;                      // -128 times the sum of all
  float scale;
};
static_assert(sizeof(Activations) == 88, "kernels address rows by this size");

struct Quantized {
  const Activations* at;  // [G, M], the group outside: row m of group g is at[g * stride + m]
  int64_t groups;         // G = K / kGroup, rounded up
  int64_t stride;         // rows from one group to the next, at least M
};

// Attention of `rows` consecutive tokens of one sequence, for the `group` query heads of one key head, to those of the
// keys [from, to) that each of them sees. A page begins at a multiple of kPage; see `remember` for its layout.
struct Attention {
  const float* q;                // [rows, group, E], rows q_stride floats apart; carries the factor of the scores
  int64_t q_stride;
  int64_t rows, group, head_size;
  int64_t position;              // of the first row, which sees the keys 0 to `position`; each next one sees one more
  int64_t from, to;              // `from` is a multiple of kPage
  const uint16_t* const* pages;  // of the sequence, all of them
  int64_t keys, values;          // where in a page the keys and values of this layer and key head begin, in halves
  float* y;                      // [rows, group, E], rows y_stride apart: sum over keys of exp(score - most) * value
  int64_t y_stride;
  float* most;                   // [rows, group]: the largest score; -infinity where none of the keys is seen
  float* sum;                    // [rows, group]: sum over keys of exp(score - most)
  int64_t most_stride;           // of `most` and `sum`, in floats
};

struct Operators {
  const char* name;

  // --- matrices -----------------------------------------------------------------------------------------------------
  // One row x [K] -> to[0], to[stride], to[2 * stride] ...
  void (*quantize)(const float* x, int64_t k, Activations* to, int64_t stride);
  // y[m][o] = sum over k of w[o][k] x[m][k] for the outputs [16 first, 16 last): `tiles` is the whole matrix,
  // [P, G] tiles, at an address that is a multiple of 64. y has room for whole tiles; y_stride in floats. `factor`: 1 / global
  // scale. Any M, but meant for up to 16.
  void (*nvfp4_step)(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                     int64_t y_stride);
  // The same for many rows, by 8-bit panels: other rounding, more speed.
  void (*nvfp4_prompt)(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                       int64_t y_stride);
  // Weights of 8 bits, [P, G] tiles. Any M.
  void (*int8_product)(const uint8_t* tiles, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                       int64_t y_stride);
  // Baselines. Weights [O, K] packed by pack_bf16 / pack_float (`baseline.h`), one layout for all variants. A piece should be
  // some pairs of panels: `first` even, and last - first 8 or more where that leaves each thread a few pieces.
  void (*bf16_product)(const uint16_t* weights, int64_t k, const float* x, int64_t x_stride, int64_t rows, int64_t first,
                       int64_t last, float* y, int64_t y_stride);
  void (*float_product)(const float* weights, int64_t k, const float* x, int64_t x_stride, int64_t rows, int64_t first,
                        int64_t last, float* y, int64_t y_stride);

  // --- the rest of a decoder ----------------------------------------------------------------------------------------
  // y = x / sqrt(mean(x^2) + epsilon) * weight, one row of k.
  void (*norm)(const float* x, const float* weight, float epsilon, int64_t k, float* y);
  // One head of E values: planes (i, i + E / 2) are turned by the position's cosines and sines [E / 2].
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t head_size);
  // y = silu(gate) * up.
  void (*gate)(const float* gate, const float* up, int64_t k, float* y);
  // x += y
  void (*add)(float* x, const float* y, int64_t k);
  // y[i] += sum over r of factors[r] * rows[r * stride + i], r by r; k a multiple of 16.
  void (*add_rows)(const float* factors, int64_t count, const float* rows, int64_t stride, int64_t k, float* y);
  // One token's key and value [E] of one key head into place `slot` of a page, as halves: keys [kPage / 16, E, 16] with
  // the token as lane, values [E / 16 rounded up, kPage, 16] with the element as lane. `attend` reads both in order.
  void (*remember)(const float* key, const float* value, int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values);
  // A row's result does not depend on the others of the call, nor on what stands behind its last key.
  void (*attend)(const Attention& attention);
  // The same in bytes: codes in the same order, then a float scale for each token of the page.
  void (*remember_bytes)(const float* key, const float* value, int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values);
  void (*attend_bytes)(const Attention& attention);
  // log(sum(exp(x))), for a head computed in pieces, and y = x - by.
  double (*log_sum_exp)(const float* x, int64_t k);
  // -sum(exp(x) x) with x not below -60.
  double (*entropy)(const float* x, int64_t k);
  void (*subtract)(const float* x, double by, int64_t k, float* y);
};

const Operators& portable();
#if defined(__x86_64__) || defined(_M_X64)
const Operators& avx2();
const Operators& avx512();  // F BW DQ VL VNNI VBMI BF16
#endif
#if defined(__aarch64__)
const Operators& neon();
#endif

}  // namespace apprentice
