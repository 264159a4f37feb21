// The decoder for Python (`engine/native.py`). Arrays are handed over as pointers that the caller keeps alive; sizes
// are checked, and what is wrong is answered by a negative number (`Status` in decoder_pass.h). A decoder may be called
// by several threads: they take turns.
#pragma once
#include "c_api.h"
#include "decoder_pass.h"

// The C form of `Model`. Mirrored by ctypes: every change changes APPRENTICE_ABI.
struct ApprenticeModel {
  int64_t hidden, heads, kv_heads, head_size, inner, vocab, max_positions, num_layers;
  int64_t cache_bits;  // 16 or 8
  float epsilon, rope_factor;
  const float* frequencies;
  apprentice::Matrix embedding;
  const float* embedding_factors;  // [hidden]; null where the embedding is in rows
  const apprentice::Layer* layers;
  const float* norm;
  apprentice::Matrix head;
};

// Bytes of a matrix of a kind (`Kind`), or -1. Begins at a multiple of 64.
APPRENTICE_API int64_t apprentice_decoder_matrix_bytes(int kind, int64_t outputs, int64_t inputs);
// Zero weights everywhere.
APPRENTICE_API int apprentice_decoder_matrix_clear(int kind, int64_t outputs, int64_t inputs, void* data);
// Rows [first, first + count) of it, or with `is_woven` 16 rows from `first` on, 16 from first + 32 on, and so on: gate
// and up. NVFP4: `weights` are codes [count, inputs / 2], `scales` [count, inputs / 16]. 8 bits and float: floats.
// BF16: BF16.
APPRENTICE_API int apprentice_decoder_matrix_fill(int kind, int64_t outputs, int64_t inputs, const void* weights,
                                                  const uint8_t* scales, int64_t count, int64_t first, int is_woven, void* data);

// Bytes of a page of the cache (64 tokens), or -1 for a model of wrong sizes.
APPRENTICE_API int64_t apprentice_decoder_page_bytes(const ApprenticeModel* model);
// nullptr where sizes are wrong, the variant is not there, or memory is.
APPRENTICE_API void* apprentice_decoder_new(const ApprenticeModel* model, const char* variant, int threads, int64_t max_pages,
                                            int64_t max_kept_pages);
APPRENTICE_API void apprentice_decoder_free(void* decoder);
APPRENTICE_API int apprentice_decoder_threads(void* decoder);

// `Adapter` of decoder_pass.h for each of qkv, output, gate_up and down of every layer, or none at all.
APPRENTICE_API int apprentice_decoder_adapt(void* decoder, const apprentice::Adapter* adapters, int64_t count);

// Appends counts[i] of `tokens` (one feed behind the other) to sequences[i], or to a new one that is not kept for -1.
// log_probs: room for [sum of outputs, vocab]; outputs[i]: of the last tokens of a feed. Returns 0 or what is wrong;
// then no sequence has changed.
APPRENTICE_API int apprentice_decoder_forward(void* decoder, int64_t num_feeds, const int64_t* sequences, const int64_t* counts,
                                              const int64_t* outputs, const int32_t* tokens, int is_prompt, float* log_probs);

// What matrices read in these tokens, at most 64 (`Decoder::observe`): floats [num_layers, 2 hidden + inner] and [hidden].
APPRENTICE_API int apprentice_decoder_observe(void* decoder, const int32_t* tokens, int64_t count, float* sizes);

// A new sequence's number.
APPRENTICE_API int64_t apprentice_decoder_open(void* decoder);
APPRENTICE_API int apprentice_decoder_close(void* decoder, int64_t sequence);
APPRENTICE_API int64_t apprentice_decoder_length(void* decoder, int64_t sequence);
APPRENTICE_API int apprentice_decoder_truncate(void* decoder, int64_t sequence, int64_t length);
// See `Pages`: how many tokens an empty sequence now begins with; 0 where what it begins with has been remembered.
APPRENTICE_API int64_t apprentice_decoder_restore(void* decoder, int64_t sequence, const int32_t* tokens, int64_t count);
APPRENTICE_API int apprentice_decoder_keep(void* decoder, int64_t sequence, const int32_t* tokens, int64_t count);
// Pages that new tokens could have, and pages that prefixes hold.
APPRENTICE_API int64_t apprentice_decoder_available_pages(void* decoder);
APPRENTICE_API int64_t apprentice_decoder_kept_pages(void* decoder);
