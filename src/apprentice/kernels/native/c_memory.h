// The instant memory for Python (`memory/native.py`). Structures are those of `memory.h`, mirrored by ctypes.
#pragma once
#include "c_api.h"
#include "memory.h"

// `text`: the last tokens of what is written, the last one first. Returns how many places were found, or -1 for more segments
// than there may be.
APPRENTICE_API int apprentice_memory_look(const apprentice::Segment* segments, int64_t num_segments, const int32_t* groups,
                                          int64_t without, const int32_t* text, int64_t size, apprentice::Opinion* opinion);
// Opinions [sources], of which those without places have no say; weights [sources, 9], hits [sources]. -1 where there is no such
// variant, a token is not in the vocabulary, or there are more than 16 sources.
APPRENTICE_API int apprentice_memory_mix(const char* variant, const apprentice::Opinion* opinions, int64_t sources, int64_t region,
                                         const double* weights, const double* hits, const float* x, int64_t vocab, float* y);
