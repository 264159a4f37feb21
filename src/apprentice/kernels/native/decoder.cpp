#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <utility>

#include "tiles.h"

namespace apprentice {
namespace {

constexpr int64_t kLeastPiece = 8 << 10;   // bytes of weights that are worth a piece
constexpr int64_t kMostPiece = 128 << 10;  // and that stay in the second-level cache
constexpr int64_t kPiecesPerThread = 4;    // what a thread that is held up does not do is done by others
constexpr int64_t kRowsWorth = 4096;       // values of rows that are worth a job
constexpr int64_t kSubtractPiece = 16384;
constexpr int64_t kFetched = 16 << 10;    // bytes of the next product

int64_t panels(const Matrix& matrix) { return round_up(matrix.outputs, kLanes) / kLanes; }
int64_t groups(const Matrix& matrix) { return round_up(matrix.inputs, kGroup) / kGroup; }
bool reads_8_bits(const Matrix& matrix) { return matrix.kind == Kind::nvfp4 || matrix.kind == Kind::int8; }

int64_t panel_bytes(const Matrix& matrix) {
  switch (matrix.kind) {
    case Kind::nvfp4: return groups(matrix) * kNvfp4Tile;
    case Kind::int8: return groups(matrix) * kInt8Tile;
    case Kind::bf16: return matrix.inputs * kLanes * 2;
    default: return matrix.inputs * kLanes * 4;
  }
}

// Panels that are taken together: baselines are packed in pairs, and pairs of all are faster to multiply with many rows.
constexpr int64_t kUnit = 2;
constexpr int64_t kGateUnit = 2 * kGroup / kLanes;  // whole groups of what is read next

}  // namespace

Decoder::Decoder(const Model& model, const Operators& operators, int threads, int64_t max_pages, int64_t max_kept_pages)
    : model_(model),
      operators_(operators),
      pool_(threads),
      pages_(model.page_halves(), max_pages, max_kept_pages),
      buffers_(model, pool_.threads()) {
  for (const Layer& layer : model_.layers) {
    products_.push_back(cut(layer.qkv, kUnit));
    products_.push_back(cut(layer.output, kUnit));
    products_.push_back(cut(layer.gate_up, kGateUnit));
    products_.push_back(cut(layer.down, kUnit));
  }
  // Pieces of one size, whatever the number of threads: their sums are merged.
  const int64_t all = panels(model_.head), step = std::max<int64_t>(kMostPiece / panel_bytes(model_.head) / 2 * 2, 2);
  products_.push_back({&model_.head, all, step, (all + step - 1) / step, (all + step - 1) / step});
}

Decoder::Product Decoder::cut(const Matrix& matrix, int64_t unit) const {
  const int64_t all = panels(matrix), units = (all + unit - 1) / unit, bytes = panel_bytes(matrix) * all;
  const int64_t count = std::max<int64_t>(pool_.threads() * kPiecesPerThread, bytes / kMostPiece + 1);
  return {&matrix, all, unit, units, std::max<int64_t>(std::min({count, bytes / kLeastPiece, units}), 1)};
}

void Decoder::adapt(std::vector<Adapter> adapters) {
  adapters_ = std::move(adapters);
  pages_.forget();
}

Status Decoder::forward(const std::vector<Feed>& feeds, Work work, float* log_probs) {
  if (!is_right(feeds)) return Status::wrong;
  for (const Feed& feed : feeds) {
    const auto is_known = [this](int32_t token) { return token >= 0 && token < model_.vocab; };
    if (!std::all_of(feed.tokens, feed.tokens + feed.count, is_known)) return Status::token;
  }
  std::vector<int64_t> sequences, counts;
  Status status = Status::ok;
  try {
    for (const Feed& feed : feeds) {
      counts.push_back(feed.count);
      sequences.push_back(feed.sequence);
      if (feed.sequence < 0) sequences.back() = pages_.open();
    }
    if (pages_.reserve(sequences, counts)) {
      std::vector<Pass> passes = plan(feeds, sequences, pages_, work, model_.kv_heads, pool_.threads());
      for (const Pass& pass : passes) {
        buffers_.resize(model_, pass.rows, pass.num_parts);
        layers(pass);
        log_probs += model_.vocab * head(pass, log_probs);
      }
      for (size_t i = 0; i < sequences.size(); ++i) pages_.advance(sequences[i], counts[i]);
    } else {
      status = Status::full;
    }
  } catch (const std::bad_alloc&) {
    status = Status::memory;
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (feeds[i].sequence < 0) {
      if (sequences[i] >= 0) pages_.close(sequences[i]);
    } else if (status != Status::ok) {
      pages_.truncate(sequences[i], pages_.length(sequences[i]));
    }
  }
  return status;
}

Status Decoder::observe(const int32_t* tokens, int64_t count, float* sizes) {
  if (count > kPage) return Status::wrong;
  std::fill_n(sizes, int64_t(model_.layers.size()) * (2 * model_.hidden + model_.inner) + model_.hidden, 0.0f);
  struct Guard {  // whatever is thrown, nobody adds to memory that is not there any more
    ~Guard() { at = nullptr; }
    float*& at;
  } guard{sizes_};
  sizes_ = sizes;
  return forward({{-1, tokens, count, 0}}, Work::prompt, nullptr);
}

// Of rows, where somebody asks; the next ones go behind them.
void Decoder::add_sizes(const float* x, int64_t stride, int64_t rows, int64_t k) {
  if (sizes_ == nullptr) return;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) sizes_[i] += std::fabs(x[row * stride + i]);
  }
  sizes_ += k;
}

bool Decoder::is_right(const std::vector<Feed>& feeds) const {
  std::set<int64_t> seen;
  for (const Feed& feed : feeds) {
    if (feed.sequence >= 0 && (!pages_.is_open(feed.sequence) || !seen.insert(feed.sequence).second)) return false;
    const int64_t past = feed.sequence < 0 ? 0 : pages_.length(feed.sequence);
    if (feed.count < 1 || feed.count > model_.max_positions - past) return false;
    if (feed.outputs < 0 || feed.outputs > feed.count) return false;
  }
  return true;
}

void Decoder::layers(const Pass& pass) {
  Buffers& b = buffers_;
  const Source normed_rows{b.normed, b.x_stride, b.records, pass.rows}, attended{b.y, b.y_stride, b.records, pass.rows};
  const Source gated{b.inner, b.inner_stride, b.inner_records, pass.rows};
  each_row(pass.rows, [&](int64_t row) { embed(pass, row); });
  for (int64_t index = 0; index < int64_t(model_.layers.size()); ++index) {
    const Layer& layer = model_.layers[index];
    const auto adapter = [&](int64_t matrix) { return adapters_.empty() ? nullptr : &adapters_[4 * index + matrix]; };
    each_row(pass.rows, [&](int64_t row) { normed(layer.qkv, layer.input_norm, normed_rows, row); });
    add_sizes(normed_rows.x, normed_rows.stride, pass.rows, model_.hidden);
    narrow(normed_rows, layer.qkv, adapter(0));
    each_piece(4 * index, 0, [&](int64_t, int64_t first, int64_t last, int) {
      multiply(layer.qkv, normed_rows, adapter(0), pass.work, first, last, b.qkv, b.qkv_stride);
    });
    each_row(pass.rows, [&](int64_t row) { place(pass, index, row); });
    const auto attend_piece = [&](int64_t piece, int) { attend(pass, index, piece); };
    pool_.run(int64_t(pass.attention.size()), std::ref(attend_piece));
    each_row(pass.rows, [&](int64_t row) { merge(pass, layer.output, row); });
    add_product(attended, 4 * index + 1, adapter(1), pass.work);
    each_row(pass.rows, [&](int64_t row) { normed(layer.gate_up, layer.mlp_norm, normed_rows, row); });
    add_sizes(normed_rows.x, normed_rows.stride, pass.rows, model_.hidden);
    gate(normed_rows, 4 * index + 2, adapter(2), pass.work, gated);
    add_sizes(gated.x, gated.stride, pass.rows, model_.inner);
    add_product(gated, 4 * index + 3, adapter(3), pass.work);
  }
  if (sizes_ == nullptr) return;
  each_row(pass.rows, [&](int64_t row) { normed(model_.head, model_.norm, normed_rows, row); });
  add_sizes(normed_rows.x, normed_rows.stride, pass.rows, model_.hidden);
}

// The row of the embedding, and the position's cosines and sines: for keys, and times the factor of the scores for
// queries.
void Decoder::embed(const Pass& pass, int64_t row) {
  const int64_t token = pass.tokens[row], size = model_.hidden, half = model_.head_size / 2;
  float* x = buffers_.x + row * buffers_.x_stride;
  if (model_.embedding.kind == Kind::int8) {
    unpack_int8_row(static_cast<const uint8_t*>(model_.embedding.data), size, token, x);
    for (int64_t i = 0; i < size; ++i) x[i] *= model_.embedding_factors[i];
  } else if (model_.embedding.kind == Kind::float32) {
    std::copy_n(static_cast<const float*>(model_.embedding.data) + token * size, size, x);
  } else {
    const uint16_t* from = static_cast<const uint16_t*>(model_.embedding.data) + token * size;
    uint32_t* bits = reinterpret_cast<uint32_t*>(x);
    for (int64_t i = 0; i < size; ++i) bits[i] = uint32_t(from[i]) << 16;
  }
  const float position = float(pass.position(row)), score = 1 / std::sqrt(float(model_.head_size));
  float *cos = buffers_.cos + 2 * row * half, *sin = buffers_.sin + 2 * row * half;
  for (int64_t plane = 0; plane < half; ++plane) {
    const double angle = double(position * model_.frequencies[plane]);
    cos[plane] = float(std::cos(angle)) * model_.rope_factor;
    sin[plane] = float(std::sin(angle)) * model_.rope_factor;
    cos[half + plane] = cos[plane] * score;
    sin[half + plane] = sin[plane] * score;
  }
}

void Decoder::normed(const Matrix& reader, const float* weight, const Source& to, int64_t row, const float* x) {
  if (x == nullptr) x = buffers_.x + row * buffers_.x_stride;
  float* y = const_cast<float*>(to.x) + row * to.stride;
  operators_.norm(x, weight, model_.epsilon, model_.hidden, y);
  if (reads_8_bits(reader)) operators_.quantize(y, model_.hidden, to.records + row, to.rows);
}

// Norms and rotates a row's queries and keys; keys and values go into their page.
void Decoder::place(const Pass& pass, int64_t index, int64_t row) {
  const Layer& layer = model_.layers[index];
  const int64_t size = model_.head_size, half = size / 2, position = pass.position(row), block = model_.head_page();
  const float *cos = buffers_.cos + 2 * row * half, *sin = buffers_.sin + 2 * row * half;
  float* query = buffers_.qkv + row * buffers_.qkv_stride;
  for (int64_t head = 0; head < model_.heads; ++head, query += size) {
    if (layer.q_norm) operators_.norm(query, layer.q_norm, model_.epsilon, size, query);
    operators_.rotate(query, cos + half, sin + half, size);
  }
  float* key = query;
  const float* value = key + model_.kv_heads * size;
  uint16_t* to = pass.slices[pass.slice_of[row]].pages[position / kPage] + index * model_.kv_heads * 2 * block;
  for (int64_t head = 0; head < model_.kv_heads; ++head, key += size, value += size, to += 2 * block) {
    if (layer.k_norm) operators_.norm(key, layer.k_norm, model_.epsilon, size, key);
    operators_.rotate(key, cos, sin, size);
    (model_.cache_in_bytes ? operators_.remember_bytes : operators_.remember)(key, value, size, position % kPage, to, to + block);
  }
}

void Decoder::attend(const Pass& pass, int64_t index, int64_t number) {
  const Pass::Piece& piece = pass.attention[number];
  const Pass::Slice& slice = pass.slices[piece.slice];
  const int64_t group = model_.heads / model_.kv_heads, first_head = piece.kv_head * group, row = slice.first + piece.first;
  const int64_t at = piece.part * pass.rows + row, block = model_.head_page();
  Attention attention;
  attention.q = buffers_.qkv + row * buffers_.qkv_stride + first_head * model_.head_size;
  attention.q_stride = buffers_.qkv_stride;
  attention.rows = piece.rows;
  attention.group = group;
  attention.head_size = model_.head_size;
  attention.position = slice.position + piece.first;
  attention.from = piece.part * kPart;
  attention.to = pass.work == Work::step ? attention.from + kPart : attention.position + piece.rows;
  attention.pages = slice.pages;
  attention.keys = (index * model_.kv_heads + piece.kv_head) * 2 * block;
  attention.values = attention.keys + block;
  attention.y = buffers_.parts + at * buffers_.y_stride + first_head * model_.head_size;
  attention.y_stride = buffers_.y_stride;
  attention.most = buffers_.most + at * model_.heads + first_head;
  attention.sum = buffers_.sum + at * model_.heads + first_head;
  attention.most_stride = model_.heads;
  (model_.cache_in_bytes ? operators_.attend_bytes : operators_.attend)(attention);
}

// One result out of the parts of the past that a row sees.
void Decoder::merge(const Pass& pass, const Matrix& reader, int64_t row) {
  const int64_t parts = pass.parts(row), size = model_.head_size;
  float* y = buffers_.y + row * buffers_.y_stride;
  for (int64_t head = 0; head < model_.heads; ++head) {
    const auto at = [&](int64_t part) { return (part * pass.rows + row) * model_.heads + head; };
    float most = buffers_.most[at(0)], sum = 0;
    for (int64_t part = 1; part < parts; ++part) most = std::max(most, buffers_.most[at(part)]);
    float* to = y + head * size;
    std::fill_n(to, size, 0.0f);
    for (int64_t part = 0; part < parts; ++part) {
      const float factor = std::exp(buffers_.most[at(part)] - most);
      const float* from = buffers_.parts + (part * pass.rows + row) * buffers_.y_stride + head * size;
      sum += factor * buffers_.sum[at(part)];
      for (int64_t e = 0; e < size; ++e) to[e] += factor * from[e];
    }
    for (int64_t e = 0; e < size; ++e) to[e] /= sum;
  }
  if (reads_8_bits(reader)) operators_.quantize(y, model_.heads * size, buffers_.records + row, pass.rows);
}

// silu(gate) * up, for the next product. A piece is a number of whole groups of 64, which are brought to 8 bits at once.
void Decoder::gate(const Source& from, int64_t product, const Adapter* adapter, Work work, const Source& to) {
  const Matrix &matrix = *products_[product].matrix, &reader = *products_[product + 1].matrix;
  narrow(from, matrix, adapter);
  float* inner = const_cast<float*>(to.x);
  each_piece(product, from.rows, [&](int64_t, int64_t first, int64_t last, int worker) {
    const int64_t width = (last - first) * kLanes, start = first * kLanes / 2;
    const int64_t count = std::min(model_.inner - start, width / 2);
    float* both = buffers_.scratch[worker];
    multiply(matrix, from, adapter, work, first, last, both - first * kLanes, width);
    for (int64_t row = 0; row < from.rows; ++row) {
      float* y = inner + row * to.stride + start;
      for (int64_t at = 0; at < width; at += 2 * kLanes) {
        const float* pair = both + row * width + at;
        operators_.gate(pair, pair + kLanes, kLanes, y + at / 2);
      }
      if (reads_8_bits(reader)) operators_.quantize(y, count, to.records + start / kGroup * to.rows + row, to.rows);
    }
  });
}

// x += product
void Decoder::add_product(const Source& from, int64_t product, const Adapter* adapter, Work work) {
  const Matrix& matrix = *products_[product].matrix;
  narrow(from, matrix, adapter);
  each_piece(product, from.rows, [&](int64_t, int64_t first, int64_t last, int worker) {
    const int64_t width = (last - first) * kLanes, start = first * kLanes;
    float* y = buffers_.scratch[worker];
    multiply(matrix, from, adapter, work, first, last, y - start, width);
    for (int64_t row = 0; row < from.rows; ++row) {
      operators_.add(buffers_.x + row * buffers_.x_stride + start, y + row * width, std::min(width, matrix.outputs - start));
    }
  });
}

void Decoder::narrow(const Source& from, const Matrix& matrix, const Adapter* adapter) {
  if (adapter == nullptr || adapter->rank == 0) return;
  Buffers& b = buffers_;
  b.resize_narrow(from.rows, adapter->rank);
  const int64_t panels = round_up(adapter->rank, kLanes) / kLanes;
  const auto piece = [&](int64_t pair, int) {
    operators_.float_product(adapter->narrow, matrix.inputs, from.x, from.stride, from.rows, 2 * pair,
                             std::min(2 * pair + 2, panels), b.narrow, b.narrow_stride);
  };
  pool_.run((panels + 1) / 2, std::ref(piece));
}

// Log-probabilities of the rows that are wanted; how many they are.
int64_t Decoder::head(const Pass& pass, float* log_probs) {
  std::vector<const float*> wanted;
  for (int64_t row = 0; row < pass.rows; ++row) {
    if (pass.wanted[row]) wanted.push_back(buffers_.x + row * buffers_.x_stride);
  }
  for (size_t at = 0; at < wanted.size(); at += kHeadRows) {
    const int64_t rows = std::min(int64_t(wanted.size() - at), kHeadRows);
    log_probabilities(wanted.data() + at, rows, log_probs + int64_t(at) * model_.vocab);
  }
  return int64_t(wanted.size());
}

void Decoder::log_probabilities(const float* const* x, int64_t rows, float* log_probs) {
  const Matrix& matrix = model_.head;
  const int64_t vocab = model_.vocab, product = int64_t(products_.size()) - 1, count = products_[product].count;
  Buffers& b = buffers_;
  b.resize_head(rows, count);
  const Source from{b.normed, b.x_stride, b.records, rows};
  each_row(rows, [&](int64_t row) { normed(matrix, model_.norm, from, row, x[row]); });
  each_piece(product, 0, [&](int64_t piece, int64_t first, int64_t last, int) {
    const int64_t start = first * kLanes;
    multiply(matrix, from, nullptr, Work::step, first, last, b.logits, b.logits_stride);
    for (int64_t row = 0; row < rows; ++row) {
      const float* logits = b.logits + row * b.logits_stride + start;
      b.log_sums[row * count + piece] = operators_.log_sum_exp(logits, std::min(last * kLanes, vocab) - start);
    }
  });
  const int64_t cuts = (vocab + kSubtractPiece - 1) / kSubtractPiece;
  for (int64_t row = 0; row < rows; ++row) {
    double* sums = b.log_sums + row * count;
    const double most = *std::max_element(sums, sums + count);
    double total = 0;
    for (int64_t i = 0; i < count; ++i) total += std::exp(sums[i] - most);
    sums[0] = most + std::log(total);
  }
  const auto subtract = [&](int64_t number, int) {
    const int64_t row = number / cuts, start = number % cuts * kSubtractPiece;
    operators_.subtract(b.logits + row * b.logits_stride + start, b.log_sums[row * count],
                        std::min(kSubtractPiece, vocab - start), log_probs + row * vocab + start);
  };
  pool_.run(rows * cuts, std::ref(subtract));
}

// Outputs [16 first, 16 last) of each row to y[row * y_stride + output].
void Decoder::multiply(const Matrix& matrix, const Source& from, const Adapter* adapter, Work work, int64_t first,
                       int64_t last, float* y, int64_t y_stride) {
  const Quantized x{from.records, groups(matrix), from.rows};
  const auto* tiles = static_cast<const uint8_t*>(matrix.data);
  const auto* halves = static_cast<const uint16_t*>(matrix.data);
  const auto* floats = static_cast<const float*>(matrix.data);
  const int64_t rows = from.rows, k = matrix.inputs;
  const Operators& o = operators_;
  switch (matrix.kind) {
    case Kind::nvfp4:
      (work == Work::step ? o.nvfp4_step : o.nvfp4_prompt)(tiles, matrix.factor, x, rows, first, last, y, y_stride);
      break;
    case Kind::int8:
      o.int8_product(tiles, x, rows, first, last, y, y_stride);
      break;
    case Kind::bf16:
      o.bf16_product(halves, k, from.x, from.stride, rows, first, last, y, y_stride);
      break;
    case Kind::float32:
      o.float_product(floats, k, from.x, from.stride, rows, first, last, y, y_stride);
      break;
  }
  const bool is_adapted = adapter != nullptr && adapter->rank > 0;
  if (!matrix.factors && !matrix.bias && !is_adapted) return;
  const int64_t start = first * kLanes, count = std::min(last * kLanes, matrix.outputs) - start;
  for (int64_t row = 0; row < rows; ++row) {
    float* of_row = y + row * y_stride + start;
    if (matrix.factors) {
      for (int64_t i = 0; i < count; ++i) of_row[i] *= matrix.factors[start + i];
    }
    if (matrix.bias) operators_.add(of_row, matrix.bias + start, count);
    if (is_adapted) {
      operators_.add_rows(buffers_.narrow + row * buffers_.narrow_stride, adapter->rank, adapter->wide + start,
                          panels(matrix) * kLanes, (last - first) * kLanes, of_row);
    }
  }
}

// row(i) for each, here or by all threads.
template <typename Row>
void Decoder::each_row(int64_t rows, Row row) {
  if (rows == 1 || rows * buffers_.x_stride < kRowsWorth) {
    for (int64_t i = 0; i < rows; ++i) row(i);
    return;
  }
  const auto piece = [&](int64_t i, int) { row(i); };
  pool_.run(rows, std::ref(piece));
}

// piece(number, first, last, worker) for the ranges of panels that make up a product's matrix. `scratch_rows` rows of such a range
// fit the scratch memory of a worker. Who has done its share fetches the beginning of its share of the next product: what begins with
// an empty cache waits for memory first.
template <typename Piece>
void Decoder::each_piece(int64_t product, int64_t scratch_rows, Piece piece) {
  const Product &now = products_[product], &next = products_[(product + 1) % products_.size()];
  if (scratch_rows > 0) buffers_.resize_scratch(scratch_rows * ((now.units + now.count - 1) / now.count) * now.unit * kLanes);
  const int threads = pool_.threads();
  const auto run = [&](int64_t i, int worker) {
    piece(i, now.first(i), now.first(i + 1), worker);
    if (i + 1 != Pool::begin(now.count, worker + 1, threads)) return;
    const int64_t size = panel_bytes(*next.matrix), first = next.first(Pool::begin(next.count, worker, threads));
    const char* at = static_cast<const char*>(next.matrix->data) + first * size;
    for (int64_t byte = 0; byte < std::min(kFetched, (next.panels - first) * size); byte += 64) __builtin_prefetch(at + byte, 0, 2);
  };
  pool_.run(now.count, std::ref(run));
}

}  // namespace apprentice
