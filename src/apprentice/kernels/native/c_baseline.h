// Baselines and limits for Python: tests and measurements. The engine calls the operators itself (`decoder.h`).
#pragma once
#include "c_api.h"

// Kinds of weights: 0 float, 1 BF16. Elements of a packed matrix, at an address that is a multiple of 64.
APPRENTICE_API int64_t apprentice_baseline_size(int64_t outputs, int64_t inputs);
// See `baseline.h`. weights: [count, inputs] floats or BF16; `first`: where these outputs stand in a stacked matrix.
// `packed` is zeroed before the first part.
APPRENTICE_API void apprentice_baseline_pack(int kind, const void* weights, int64_t count, int64_t inputs,
                                             int64_t first, void* packed);

// One product of a list: x [rows, inputs] times the matrix -> y [rows, outputs rounded up to 16].
struct ApprenticeBaselineProduct {
  const void* packed;
  int64_t outputs, inputs;
  const float* x;
  int64_t rows;
  float* y;
};
// Products one after the other, each by all threads. Returns the nanoseconds that all took, -1 where there is no such
// variant.
APPRENTICE_API int64_t apprentice_baseline_products(void* pool, const char* variant, int kind,
                                                    const ApprenticeBaselineProduct* products, int64_t count);

// Limits of the machine, all threads of the pool at work. Nanoseconds, -1 where the variant has none.
// Reads `bytes`, a multiple of 256 from a multiple of 64 on, in pieces of `piece` bytes, a multiple of 256.
APPRENTICE_API int64_t apprentice_limit_read(void* pool, const char* variant, const void* from, int64_t bytes,
                                             int64_t piece);
// kind 0: float, 1: BF16, 2: 8 bits. Each of `pieces` pieces is `turns` turns of the loop; *operations: of all.
APPRENTICE_API int64_t apprentice_limit_operations(void* pool, const char* variant, int kind, int64_t pieces,
                                                   int64_t turns, int64_t* operations);
