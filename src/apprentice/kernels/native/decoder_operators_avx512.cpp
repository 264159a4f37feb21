#define APPRENTICE_VARIANT avx512_ops
#include "decoder_operators.inl"
