#include "baseline.h"

#include "tiles.h"

namespace apprentice {
namespace {

// `together`: inputs of an output that stand side by side.
template <typename Weight, int together>
void pack(const Weight* weights, int64_t count, int64_t k, int64_t first, Weight* packed) {
  const int64_t pair_size = kPair * round_up(k, kBaselineInputs);
  for (int64_t row = 0; row < count; ++row) {
    const int64_t output = first + row;
    Weight* to = packed + output / kPair * pair_size + output % kPair * together;
    for (int64_t i = 0; i < k; ++i) to[i / together * (kPair * together) + i % together] = weights[row * k + i];
  }
}

}  // namespace

int64_t baseline_size(int64_t outputs, int64_t k) { return round_up(outputs, kPair) * round_up(k, kBaselineInputs); }

void pack_float(const float* weights, int64_t count, int64_t k, int64_t first, float* packed) {
  pack<float, 1>(weights, count, k, first, packed);
}

void pack_bf16(const uint16_t* weights, int64_t count, int64_t k, int64_t first, uint16_t* packed) {
  pack<uint16_t, 2>(weights, count, k, first, packed);
}

}  // namespace apprentice
