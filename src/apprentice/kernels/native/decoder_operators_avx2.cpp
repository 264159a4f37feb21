#define APPRENTICE_VARIANT avx2_ops
#include "decoder_operators.inl"
