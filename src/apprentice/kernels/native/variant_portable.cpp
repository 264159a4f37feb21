#define APPRENTICE_VARIANT portable_ops
#include "declarations.inl"

namespace apprentice {

const Operators& portable() {
  using namespace portable_ops;
  static const Operators table = {
      "portable", quantize, nvfp4_step, nvfp4_prompt, int8_product, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
      nullptr, nullptr,
  };
  return table;
}

}  // namespace apprentice
