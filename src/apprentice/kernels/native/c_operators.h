// The small operators and the pages of the cache for Python: tests and measurements. The decoder calls them itself.
#pragma once
#include "c_api.h"

// Each as in `operators.h`, of one variant; -1 where there is no such variant.
APPRENTICE_API int apprentice_operator_norm(const char* variant, const float* x, const float* weight, float epsilon, int64_t k,
                                            float* y);
APPRENTICE_API int apprentice_operator_rotate(const char* variant, float* x, const float* cos, const float* sin,
                                              int64_t head_size);
APPRENTICE_API int apprentice_operator_gate(const char* variant, const float* gate, const float* up, int64_t k, float* y);
APPRENTICE_API int apprentice_operator_add(const char* variant, float* x, const float* y, int64_t k);
APPRENTICE_API int apprentice_operator_log_softmax(const char* variant, const float* x, int64_t k, double* log_sum, float* y);
APPRENTICE_API int apprentice_operator_remember(const char* variant, int in_bytes, const float* key, const float* value,
                                                int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values);
// One key head whose pages [count, 2, page_block] hold keys, then values. q and y [rows, group, E], most and sum
// [rows, group].
APPRENTICE_API int apprentice_operator_attend(const char* variant, int in_bytes, const float* q, int64_t rows, int64_t group,
                                              int64_t head_size, int64_t position, int64_t from, int64_t to,
                                              const uint16_t* pages, int64_t count, float* y, float* most, float* sum);

// `Pages`. What stands in them is of no interest here: a page has 64 halves.
APPRENTICE_API void* apprentice_pages_new(int64_t limit, int64_t keep_limit);
APPRENTICE_API void apprentice_pages_free(void* pages);
APPRENTICE_API int64_t apprentice_pages_open(void* pages);
APPRENTICE_API void apprentice_pages_close(void* pages, int64_t sequence);
APPRENTICE_API int64_t apprentice_pages_length(void* pages, int64_t sequence);
APPRENTICE_API void apprentice_pages_truncate(void* pages, int64_t sequence, int64_t length);
// Makes room for more[i] tokens of each and, where there is room, writes token t as the number t into its place in the
// page.
APPRENTICE_API int apprentice_pages_append(void* pages, int64_t count, const int64_t* sequences, const int64_t* more,
                                           const int32_t* tokens);
// What stands in the places of a sequence's tokens.
APPRENTICE_API void apprentice_pages_read(void* pages, int64_t sequence, int32_t* tokens);
APPRENTICE_API int64_t apprentice_pages_restore(void* pages, int64_t sequence, const int32_t* tokens, int64_t count);
APPRENTICE_API void apprentice_pages_keep(void* pages, int64_t sequence, const int32_t* tokens, int64_t count);
APPRENTICE_API int64_t apprentice_pages_available(void* pages);
APPRENTICE_API int64_t apprentice_pages_kept(void* pages);
