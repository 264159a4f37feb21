// Matrices cut into tiles of 16 outputs x 64 inputs, so that a SIMD lane is an output and memory is read once, in order, in
// whole cache lines.
//
//   NVFP4   4 blocks of 16 inputs: per block 2 x 64 bytes of nibbles, at the end 4 x 16 scales:              576 bytes
//           byte 4 o + j of the first 64 of a block: output o, input j in its low, input 4 + j in its high nibble; the
//           second 64 hold inputs 8 to 15. 4 bytes of an output side by side are what vpdpbusd, sdot and a pair of
//           vpmaddubsw, vpmaddwd add up.
//   8 bits  byte 64 (k / 4) + 4 o + k % 4: the weight of output o and input k, plus 128; then 16 float scales: 1088 bytes
//
// A scale of NVFP4 is E4M3 and never negative. Its free bit is given to the exponent (E5M3, bias 16), which makes every
// subnormal a normal number: float bits = (code << 20) + (111 << 23). What is written has exponents from 7 to 24, so that a
// power of two from 2^-6 to 2^6 may be moved between inputs and weights later (`engine/balance.py`). A block whose scale is
// zero gets zero weights and the code 0.
//
// Missing outputs and inputs are zero weights. Tiles of 16 outputs stand one after the other: [P, G].
// Letters: O outputs, K inputs, P = O / 16, G = K / 64, both rounded up.
#pragma once
#include "operators.h"

namespace apprentice {

constexpr int kScaleBias = 16;
constexpr int kFloatBias = 127 - kScaleBias;

static inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Tiles for the outputs [first, first + count) of a stacked matrix of which this is a part: `first` need not be a multiple
// of 16, so that q, k and v may stand in one matrix. The caller zeroes `tiles` once before the first part.
// codes [count, K / 2], scales [count, K / 16] as compressed-tensors lays them out; K a multiple of 16.
void pack_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t count, int64_t k, int64_t first, uint8_t* tiles);
// The same from floats [count, K], rounded to 8 bits with a scale for each output and 64 inputs.
void pack_int8(const float* weights, int64_t count, int64_t k, int64_t first, uint8_t* tiles);
// Makes the tiles of an empty matrix: nothing but zero weights.
void clear_nvfp4(uint8_t* tiles, int64_t num_tiles);
void clear_int8(uint8_t* tiles, int64_t num_tiles);
// Row `output` of 8-bit tiles as floats [K]: an embedding.
void unpack_int8_row(const uint8_t* tiles, int64_t k, int64_t output, float* row);

}  // namespace apprentice
