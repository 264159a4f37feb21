#define APPRENTICE_VARIANT neon_ops
#define APPRENTICE_LANES_NEON
#include "decoder_operators.inl"
