// A model as the decoder gets it, and what it works with: rows on one trip through the layers, and memory for them.
//
// Letters as in `decoder.h`.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "operators.h"
#include "pages.h"

namespace apprentice {

enum class Kind : int32_t { nvfp4 = 0, int8 = 2, bf16 = 3, float32 = 4 };

// y = (W x) * factors + bias. The caller keeps the data alive.
struct Matrix {
  Kind kind;
  int64_t outputs, inputs;
  const void* data;      // tiles (`tiles.h`) or packed (`baseline.h`)
  float factor;          // NVFP4: 1 / global scale
  const float* factors;  // [outputs] or null: stacked matrices whose global scales differ
  const float* bias;     // [outputs] or null
};

// A correction of low rank beside a matrix: y += wide^T (narrow x). The caller keeps the data alive.
struct Adapter {
  int64_t rank;         // 0: none
  const float* narrow;  // [rank, inputs] packed (`baseline.h`)
  const float* wide;    // [rank, outputs rounded up to 16], in the order of the matrix's outputs; the scale is in it
};

struct Layer {
  const float* input_norm;  // [D]
  Matrix qkv;               // q above k above v
  const float* q_norm;      // [E] or null
  const float* k_norm;
  Matrix output;
  const float* mlp_norm;    // [D]
  Matrix gate_up;           // 16 rows of gate, 16 of up, and so on; missing rows are zero
  Matrix down;
};

struct Model {
  int64_t hidden, heads, kv_heads, head_size, inner, vocab, max_positions;
  float epsilon;
  const float* frequencies;  // [E / 2]: radians per position of each plane
  float rope_factor;         // on cosines and sines
  Matrix embedding;          // int8: tiles, such as a tied head's own; float32 and bf16: rows [V, D]
  const float* embedding_factors;  // [D]: what is taken from tiles is multiplied by
  std::vector<Layer> layers;
  const float* norm;         // [D]
  Matrix head;
  bool cache_in_bytes;

  // Halves of a page: [layer, key head, keys and values, 64 tokens of them].
  int64_t head_page() const { return page_block(head_size, cache_in_bytes); }
  int64_t page_halves() const { return int64_t(layers.size()) * 2 * kv_heads * head_page(); }
};

enum class Work { step, prompt };
enum class Status { ok = 0, wrong = -1, full = -2, token = -3, memory = -4 };

// Tokens that a sequence goes on with.
struct Feed {
  int64_t sequence;  // -1: one that starts here and is not kept
  const int32_t* tokens;
  int64_t count;
  int64_t outputs;   // of the last of them
};

// Memory that only grows, zeroed when new, on whole cache lines.
template <typename T>
class Buffer {
 public:
  T* at(int64_t count) {
    if (count > size_) {
      size_ = 0;
      data_.reset();
      data_.reset(static_cast<T*>(::operator new(size_t(count) * sizeof(T), kAlignment)));
      std::fill_n(reinterpret_cast<char*>(data_.get()), size_t(count) * sizeof(T), char(0));
      size_ = count;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

// Where the rows of a trip come from, and how their attention is cut up.
struct Pass {
  struct Slice {  // rows of one sequence
    int64_t sequence, first, rows, position;
    uint16_t* const* pages;
  };
  struct Piece {
    int64_t slice, kv_head, first, rows, part;  // `first` within the slice
  };
  Work work;
  int64_t rows = 0, num_parts = 1;
  std::vector<Slice> slices;
  std::vector<int64_t> slice_of;  // of each row
  std::vector<int32_t> tokens;
  std::vector<char> wanted;       // whether the row's log-probabilities are asked for
  std::vector<Piece> attention;

  int64_t position(int64_t row) const { return slices[slice_of[row]].position + row - slices[slice_of[row]].first; }
  // Parts of the past that a row sees.
  int64_t parts(int64_t row) const;
  void plan_attention(int64_t kv_heads, int threads);
};

// The trips that feeds take, in order: at most `kPassRows` rows each.
std::vector<Pass> plan(const std::vector<Feed>& feeds, const std::vector<int64_t>& sequences, const Pages& pages, Work work,
                       int64_t kv_heads, int threads);

constexpr int64_t kPassRows = 256;
constexpr int64_t kHeadRows = 32;   // most rows that go through the head together
constexpr int64_t kPart = 512;      // tokens of the past in a piece of a step's attention
constexpr int64_t kBlockRows = 16;  // rows in a piece of a prompt's

struct Buffers {
  explicit Buffers(const Model& model, int threads);
  void resize(const Model& model, int64_t rows, int64_t num_parts);
  void resize_head(int64_t rows, int64_t pieces);
  void resize_narrow(int64_t rows, int64_t rank);
  // Of one thread; only larger from one call of the pool to the next.
  void resize_scratch(int64_t count);

  const int64_t x_stride, qkv_stride, y_stride, inner_stride, logits_stride;
  float *x, *normed, *qkv, *y, *parts, *most, *sum, *inner, *cos, *sin, *logits, *narrow;
  int64_t narrow_stride = 0;
  double* log_sums;
  Activations *records, *inner_records;
  std::vector<float*> scratch;

 private:
  Buffer<float> x_, normed_, qkv_, y_, parts_, most_, sum_, inner_, cos_, sin_, logits_, narrow_;
  Buffer<double> log_sums_;
  Buffer<Activations> records_, inner_records_;
  std::vector<Buffer<float>> scratch_;
};

}  // namespace apprentice
