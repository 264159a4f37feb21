// What NVFP4 is compared with: matrix products of float and of BF16 weights, as fast as this machine can. Layout,
// packing, and the functions of each variant.
//
//   float   pair of panels: 32 outputs; for input 0: 32 floats, for input 1: 32 floats ...         128 bytes an input
//   BF16    pair of panels: 32 outputs; for inputs 0, 1: 32 x 2 halves, then for inputs 2, 3 ...   128 bytes two inputs
//
// A SIMD lane is an output: the sum of an output runs along K in one register, in order, whatever the number of rows,
// so a row's result is the same bits alone, in a batch and in a prompt. Two panels side by side are two to eight
// independent sums, which hide the latency of a multiply-add, and still one stream of whole cache lines in order. All
// variants read the same layout. Missing outputs and inputs (O to a multiple of 32, K to one of 32) are zero weights.
//
// Where BF16 is multiplied by the processor (vdpbf16ps), activations are rounded to BF16 too, as in training and in
// other engines; elsewhere weights are widened to float and activations stay float.
//
// Letters as in operators.h; Q = O / 32, pairs of panels, rounded up.
#pragma once
#include "operators.h"

namespace apprentice {

constexpr int kPair = 32;            // outputs of two panels
constexpr int kBaselineInputs = 32;  // K is padded to a multiple of it

// Elements of a packed matrix, of floats or of BF16.
int64_t baseline_size(int64_t outputs, int64_t k);
// Outputs [first, first + count) of a stacked matrix of which this is a part; first need not be a multiple of anything.
// The caller zeroes `packed` once before the first part. weights [count, K].
void pack_float(const float* weights, int64_t count, int64_t k, int64_t first, float* packed);
void pack_bf16(const uint16_t* weights, int64_t count, int64_t k, int64_t first, uint16_t* packed);

}  // namespace apprentice
