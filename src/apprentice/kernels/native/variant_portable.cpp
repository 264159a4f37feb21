#define APPRENTICE_VARIANT portable_ops
#include "declarations.inl"

namespace apprentice {

const Operators& portable() {
  using namespace portable_ops;
  static const Operators table = {
      "portable", quantize, nvfp4_step, nvfp4_prompt, int8_product, bf16_product, float_product,
      norm, rotate, gate, add, add_rows, remember, attend, remember_bytes, attend_bytes, log_sum_exp, entropy, subtract,
  };
  return table;
}

}  // namespace apprentice
