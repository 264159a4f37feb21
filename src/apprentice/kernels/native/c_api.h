// The base of the C interface: what Python calls through ctypes (`kernels/native.py`). Every function of the library
// that is meant for it starts with `apprentice_` and is declared with APPRENTICE_API; handles are opaque pointers.
// Nothing throws across this border: what fails returns a null pointer or a negative number.
#pragma once
#include <cstdint>

#define APPRENTICE_API extern "C" __attribute__((visibility("default")))

// Raised with every change of an exported function; Python refuses a library of another number.
#define APPRENTICE_ABI 6

APPRENTICE_API int apprentice_abi();

// Names of variants, fastest first; nullptr behind the last. Compiled: what the library holds. Usable: what of that
// this machine runs.
APPRENTICE_API const char* apprentice_compiled_variant(int64_t index);
APPRENTICE_API const char* apprentice_usable_variant(int64_t index);

// A pool (`pool.h`) of `threads` with the calling one, or nullptr. To be freed when no function uses it any more.
APPRENTICE_API void* apprentice_pool_new(int threads);
APPRENTICE_API void apprentice_pool_free(void* pool);
// How many it has: fewer than were asked for where the system gave no more.
APPRENTICE_API int apprentice_pool_threads(void* pool);
// For tests and measurements: `runs` runs of `count` pieces; piece i adds 1 to counts[i] and then works for `work`
// turns of an empty loop. Returns the nanoseconds that all took, or a negative number if workers had wrong numbers.
APPRENTICE_API int64_t apprentice_pool_trial(void* pool, int64_t runs, int64_t count, int64_t work, int32_t* counts);
