#define APPRENTICE_VARIANT portable_ops
#include "decoder_operators.inl"
