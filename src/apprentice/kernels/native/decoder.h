// A whole decoder (Llama, Qwen2, Qwen3): tokens of several sequences in, log-probabilities of the next token out, in
// one call.
//
//   tokens --embed--> x [N, D] --[ + attention(norm(x)), + mlp(norm(x)) ] x layers--> norm --head--> log-probabilities [N, V]
//
// All sequences' tokens stand below each other, without padding. A layer is five jobs for the pool, and between them
// what is too short to be worth a job is done by the calling thread:
//
//   norm, 8 bits | q k v | q/k norms, rotation, into the pages | attention | merge, 8 bits | output, + x
//   norm, 8 bits | gate, up, silu(gate) up, 8 bits | down, + x
//
// A piece of a matrix job is a range of its outputs, with all rows while the weights lie in the cache; who computed a
// range also adds its bias, adds it to x, or makes the gated values of it and brings them to 8 bits for the next
// matrix. Gate and up stand in one matrix, 16 rows of each in turn, so that a range has both. A piece of the attention
// job is one key head of one sequence, some rows, and in a step at most 512 tokens of its past: a long past is shared
// by the threads, and the parts are merged in their order.
//
// Two kinds of work: `step` for few rows at a time, `prompt` for many, which differ in how 4-bit weights are
// multiplied. In both a row's numbers depend on the tokens before it, and not on what is computed with it, nor on the
// number of threads.
//
// Letters: N rows (tokens of all sequences), D residual width, K key heads, H query heads, E head size, F width of the
// MLP, V vocabulary.
#pragma once
#include <vector>

#include "decoder_pass.h"
#include "operators.h"
#include "pages.h"
#include "pool.h"

namespace apprentice {

class Decoder {
 public:
  Decoder(const Model& model, const Operators& operators, int threads, int64_t max_pages, int64_t max_kept_pages);

  // From the next call on with these corrections, of qkv, output, gate_up and down of every layer; none: as it was. Beginnings
  // of prompts are forgotten. A sequence that is open goes on with what it has.
  void adapt(std::vector<Adapter> adapters);
  // log_probs [sum of outputs, V]. Where it is not ok, no sequence has changed.
  Status forward(const std::vector<Feed>& feeds, Work work, float* log_probs);
  // Reads up to kPage tokens and forgets them. sizes: sums of |x| over the tokens, of all that qkv, gate_up and down of a layer
  // read, layer by layer, then of what the head reads: [layers, 2 D + F] and [D].
  Status observe(const int32_t* tokens, int64_t count, float* sizes);

  const Model& model() const { return model_; }
  Pages& pages() { return pages_; }
  int threads() const { return pool_.threads(); }

 private:
  // Rows that a matrix reads: as floats and, where it wants them so, in 8 bits.
  struct Source {
    const float* x;
    int64_t stride;
    Activations* records;
    int64_t rows;
  };

  // A matrix in `count` pieces, each of whole units of panels but the last.
  struct Product {
    const Matrix* matrix;
    int64_t panels, unit, units, count;
    int64_t first(int64_t piece) const { return std::min(units * piece / count * unit, panels); }
  };

  bool is_right(const std::vector<Feed>& feeds) const;
  void layers(const Pass& pass);
  void embed(const Pass& pass, int64_t row);
  // Of a row of x, or of another.
  void normed(const Matrix& reader, const float* weight, const Source& to, int64_t row, const float* x = nullptr);
  void place(const Pass& pass, int64_t layer, int64_t row);
  void attend(const Pass& pass, int64_t layer, int64_t piece);
  void merge(const Pass& pass, const Matrix& reader, int64_t row);
  void gate(const Source& from, int64_t product, const Adapter* adapter, Work work, const Source& to);
  void add_product(const Source& from, int64_t product, const Adapter* adapter, Work work);
  // The first half of a correction, for `multiply`.
  void narrow(const Source& from, const Matrix& matrix, const Adapter* adapter);
  void add_sizes(const float* x, int64_t stride, int64_t rows, int64_t k);
  int64_t head(const Pass& pass, float* log_probs);
  void log_probabilities(const float* const* x, int64_t rows, float* log_probs);

  void multiply(const Matrix& matrix, const Source& from, const Adapter* adapter, Work work, int64_t first, int64_t last,
                float* y, int64_t y_stride);
  template <typename Row>
  void each_row(int64_t rows, Row row);
  Product cut(const Matrix& matrix, int64_t unit) const;
  template <typename Piece>
  void each_piece(int64_t product, int64_t scratch_rows, Piece piece);

  const Model model_;
  std::vector<Product> products_;  // in the order of a pass: four of each layer, then the head
  const Operators& operators_;
  Pool pool_;
  Pages pages_;
  Buffers buffers_;
  std::vector<Adapter> adapters_;  // four of each layer, or none
  float* sizes_ = nullptr;         // where `observe` adds up, while it does
};

}  // namespace apprentice
