// Packing and products for Python: tests and measurements. The engine calls the operators itself (`decoder.h`).
#pragma once
#include "c_api.h"

// 0: 4 bits as in a step, 1: 4 bits as in a prompt, 2: 8 bits.
APPRENTICE_API int64_t apprentice_tiles_bytes(int kind, int64_t outputs, int64_t inputs);
APPRENTICE_API void apprentice_tiles_clear(int kind, int64_t outputs, int64_t inputs, uint8_t* tiles);
// See `tiles.h`. `first`: where these outputs stand in a stacked matrix.
APPRENTICE_API void apprentice_tiles_pack_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t count, int64_t inputs,
                                                int64_t first, uint8_t* tiles);
APPRENTICE_API void apprentice_tiles_pack_mxfp4(const uint8_t* codes, const uint8_t* scales, int largest, int64_t count,
                                                int64_t inputs, int64_t first, uint8_t* tiles);
APPRENTICE_API void apprentice_tiles_pack_int8(const float* weights, int64_t count, int64_t inputs, int64_t first,
                                               uint8_t* tiles);
// x [rows, inputs] -> records [G, rows] (`Activations`), 88 bytes each. Returns -1 where there is no such variant.
APPRENTICE_API int apprentice_quantize(const char* variant, const float* x, int64_t rows, int64_t inputs, uint8_t* records);
// x [rows, inputs] times the matrix -> y [rows, outputs rounded up to 16]. Returns -1 where there is no such variant.
APPRENTICE_API int apprentice_product(void* pool, const char* variant, int kind, const uint8_t* tiles, float factor,
                                      int64_t outputs, int64_t inputs, const float* x, int64_t rows, float* y);
