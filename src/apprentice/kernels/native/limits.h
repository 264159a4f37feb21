// What the machine can do at best, measured beside what the kernels do: `benchmarks/roofline.py` divides one by the
// other.
#pragma once
#include <cstdint>

namespace apprentice {

// Loops of one variant that do nothing else. nullptr where the variant has no such instruction.
struct Limits {
  const char* name;  // of the variant
  // Reads a multiple of 256 bytes from a multiple of 64 on, once, in order; gives a number that depends on all of them.
  uint32_t (*read)(const void* from, int64_t bytes);
  // Multiplies and adds in registers alone; the number of operations, 2 for a product that is added.
  int64_t (*float_operations)(int64_t turns);
  int64_t (*bf16_operations)(int64_t turns);  // pairs of BF16 into floats
  int64_t (*int8_operations)(int64_t turns);  // unsigned and signed bytes into 32 bits
};

const Limits& portable_limits();
#if defined(__x86_64__) || defined(_M_X64)
const Limits& avx2_limits();
const Limits& avx512_limits();
#endif

}  // namespace apprentice
