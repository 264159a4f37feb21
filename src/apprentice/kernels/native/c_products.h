// Packing and products for Python: tests and measurements. The engine calls the operators itself (`decoder.h`).
#pragma once
#include "c_api.h"

// 0: 4 bits as in a step, 1: 4 bits as in a prompt, 2: 8 bits.
APPRENTICE_API int64_t apprentice_tiles_bytes(int kind, int64_t outputs, int64_t inputs);
APPRENTICE_API void apprentice_tiles_clear(int kind, int64_t outputs, int64_t inputs, uint8_t* tiles);
// See `tiles.h`. `first`: where these outputs stand in a stacked matrix.
APPRENTICE_API void apprentice_tiles_pack_nvfp4(const uint8_t* codes, const uint8_t* scales, int64_t count, int64_t inputs,
                                                int64_t first, uint8_t* tiles);
APPRENTICE_API void apprentice_tiles_pack_int8(const float* weights, int64_t count, int64_t inputs, int64_t first,
                                               uint8_t* tiles);
// x [rows, inputs] -> records [G, rows] (`Activations`), 88 bytes each. Returns -1 where there is no such variant.
APPRENTICE_API int apprentice_quantize(const char* variant, const float* x, int64_t rows, int64_t inputs, uint8_t* records);
// One product of a list: x [rows, inputs] times the matrix -> y [rows, outputs rounded up to 16].
struct ApprenticeProduct {
  const uint8_t* tiles;
  int64_t outputs, inputs;
  const float* x;
  int64_t rows;
  float* y;
  float factor;
  int32_t kind;
};
// Products one after the other, each by all threads, rounding of x to 8 bits included. Returns the nanoseconds that all took,
// -1 where there is no such variant.
APPRENTICE_API int64_t apprentice_products(void* pool, const char* variant, const ApprenticeProduct* products, int64_t count);
