#include "c_decoder.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "baseline.h"
#include "cpu.h"
#include "decoder.h"
#include "tiles.h"

using namespace apprentice;

namespace {

struct Handle {
  template <typename... Arguments>
  explicit Handle(Arguments&&... arguments) : decoder(static_cast<Arguments&&>(arguments)...) {}
  std::mutex only_one;
  Decoder decoder;
};

constexpr int64_t kMostSize = int64_t(1) << 26;
constexpr int64_t kMostRank = 4096;

bool is_size(int64_t value) { return value >= 1 && value <= kMostSize; }

bool is_right(const Matrix& matrix, int64_t outputs, int64_t inputs, bool is_rows = false) {
  const bool has_tiles = matrix.kind == Kind::nvfp4 || matrix.kind == Kind::int8;
  const bool is_known = has_tiles || matrix.kind == Kind::bf16 || matrix.kind == Kind::float32;
  if (!is_known || matrix.data == nullptr || matrix.outputs != outputs || matrix.inputs != inputs) return false;
  if (is_rows) return matrix.kind != Kind::nvfp4;
  if (matrix.kind == Kind::nvfp4 && inputs % kBlock != 0) return false;
  return !has_tiles || reinterpret_cast<uintptr_t>(matrix.data) % 64 == 0;
}

bool is_right(const ApprenticeModel& m) {
  for (int64_t size : {m.hidden, m.heads, m.kv_heads, m.head_size, m.inner, m.vocab, m.max_positions, m.num_layers}) {
    if (!is_size(size)) return false;
  }
  if (m.cache_bits != 16 && m.cache_bits != 8) return false;
  if (m.heads > 65536 || m.num_layers > 65536 || m.heads % m.kv_heads != 0) return false;
  if (m.head_size % 2 != 0 || m.head_size > kMaxHead) return false;
  if (m.frequencies == nullptr || m.layers == nullptr || m.norm == nullptr) return false;
  const int64_t queries = m.heads * m.head_size, keys = m.kv_heads * m.head_size;
  const int64_t gate_up = 2 * ((m.inner + kLanes - 1) / kLanes * kLanes);
  for (int64_t i = 0; i < m.num_layers; ++i) {
    const Layer& layer = m.layers[i];
    if (layer.input_norm == nullptr || layer.mlp_norm == nullptr) return false;
    if (!is_right(layer.qkv, queries + 2 * keys, m.hidden) || !is_right(layer.output, m.hidden, queries)) return false;
    if (!is_right(layer.gate_up, gate_up, m.hidden) || !is_right(layer.down, m.hidden, m.inner)) return false;
  }
  if (m.embedding.kind == Kind::int8 && m.embedding_factors == nullptr) return false;
  return is_right(m.embedding, m.vocab, m.hidden, true) && is_right(m.head, m.vocab, m.hidden);
}

int64_t tiles_of(int64_t outputs, int64_t inputs) {
  return round_up(outputs, kLanes) / kLanes * (round_up(inputs, kGroup) / kGroup);
}

void fill(Kind kind, int64_t inputs, const void* weights, const uint8_t* scales, int64_t from, int64_t count, int64_t first,
          void* data) {
  const auto* bytes = static_cast<const uint8_t*>(weights);
  switch (kind) {
    case Kind::nvfp4:
      pack_nvfp4(bytes + from * inputs / 2, scales + from * inputs / kBlock, count, inputs, first, static_cast<uint8_t*>(data));
      break;
    case Kind::int8:
      pack_int8(static_cast<const float*>(weights) + from * inputs, count, inputs, first, static_cast<uint8_t*>(data));
      break;
    case Kind::bf16:
      pack_bf16(static_cast<const uint16_t*>(weights) + from * inputs, count, inputs, first, static_cast<uint16_t*>(data));
      break;
    case Kind::float32:
      pack_float(static_cast<const float*>(weights) + from * inputs, count, inputs, first, static_cast<float*>(data));
      break;
  }
}

Model made_of(const ApprenticeModel& m) {
  Model model;
  model.hidden = m.hidden;
  model.heads = m.heads;
  model.kv_heads = m.kv_heads;
  model.head_size = m.head_size;
  model.inner = m.inner;
  model.vocab = m.vocab;
  model.max_positions = m.max_positions;
  model.epsilon = m.epsilon;
  model.frequencies = m.frequencies;
  model.rope_factor = m.rope_factor;
  model.embedding = m.embedding;
  model.embedding_factors = m.embedding_factors;
  model.layers.assign(m.layers, m.layers + m.num_layers);
  model.norm = m.norm;
  model.head = m.head;
  model.cache_in_bytes = m.cache_bits == 8;
  return model;
}

// The answer of `work` on an open sequence, with no other thread at the decoder.
template <typename Work>
auto with_sequence(void* decoder, int64_t sequence, Work work) -> decltype(work(std::declval<Pages&>())) {
  try {
    Handle& handle = *static_cast<Handle*>(decoder);
    std::lock_guard<std::mutex> lock(handle.only_one);
    if (!handle.decoder.pages().is_open(sequence)) return int(Status::wrong);
    return work(handle.decoder.pages());
  } catch (...) {
    return int(Status::memory);
  }
}

}  // namespace

int64_t apprentice_decoder_matrix_bytes(int kind, int64_t outputs, int64_t inputs) {
  if (!is_size(outputs) || !is_size(inputs)) return int(Status::wrong);
  switch (Kind(kind)) {
    case Kind::nvfp4: return inputs % kBlock == 0 ? tiles_of(outputs, inputs) * kNvfp4Tile : int(Status::wrong);
    case Kind::int8: return tiles_of(outputs, inputs) * kInt8Tile;
    case Kind::bf16: return baseline_size(outputs, inputs) * 2;
    case Kind::float32: return baseline_size(outputs, inputs) * 4;
  }
  return int(Status::wrong);
}

int apprentice_decoder_matrix_clear(int kind, int64_t outputs, int64_t inputs, void* data) {
  const int64_t bytes = apprentice_decoder_matrix_bytes(kind, outputs, inputs);
  if (bytes < 0) return int(Status::wrong);
  if (Kind(kind) == Kind::int8) {
    clear_int8(static_cast<uint8_t*>(data), tiles_of(outputs, inputs));
  } else {
    std::memset(data, 0, size_t(bytes));
  }
  return 0;
}

int apprentice_decoder_matrix_fill(int kind, int64_t outputs, int64_t inputs, const void* weights, const uint8_t* scales,
                                   int64_t count, int64_t first, int is_woven, void* data) {
  if (apprentice_decoder_matrix_bytes(kind, outputs, inputs) < 0 || count < 0 || first < 0) return int(Status::wrong);
  const int64_t step = is_woven != 0 ? kLanes : std::max<int64_t>(count, 1);
  const int64_t blocks = (count + step - 1) / step, place = is_woven != 0 ? 2 * kLanes : step;
  if (blocks > 0 && first + (blocks - 1) * place + count - (blocks - 1) * step > outputs) return int(Status::wrong);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t from = block * step;
    fill(Kind(kind), inputs, weights, scales, from, std::min(step, count - from), first + block * place, data);
  }
  return 0;
}

int64_t apprentice_decoder_page_bytes(const ApprenticeModel* model) {
  try {
    return model != nullptr && is_right(*model) ? made_of(*model).page_halves() * 2 : -1;
  } catch (...) {
    return -1;
  }
}

void* apprentice_decoder_new(const ApprenticeModel* model, const char* variant, int threads, int64_t max_pages,
                             int64_t max_kept_pages) {
  try {
    const Operators* operators = variant == nullptr ? nullptr : find_variant(variant);
    if (operators == nullptr || model == nullptr || !is_right(*model) || max_pages < 1 || max_kept_pages < 0) return nullptr;
    return new Handle(made_of(*model), *operators, threads, max_pages, max_kept_pages);
  } catch (...) {
    return nullptr;
  }
}

void apprentice_decoder_free(void* decoder) { delete static_cast<Handle*>(decoder); }

int apprentice_decoder_threads(void* decoder) { return static_cast<Handle*>(decoder)->decoder.threads(); }

int apprentice_decoder_adapt(void* decoder, const Adapter* adapters, int64_t count) {
  try {
    Handle& handle = *static_cast<Handle*>(decoder);
    std::vector<Adapter> copied(adapters, adapters + count);
    for (const Adapter& adapter : copied) {
      const bool is_whole = adapter.narrow != nullptr && adapter.wide != nullptr;
      if (adapter.rank < 0 || adapter.rank > kMostRank || (adapter.rank > 0 && !is_whole)) return int(Status::wrong);
    }
    std::lock_guard<std::mutex> lock(handle.only_one);
    if (count != 0 && count != 4 * int64_t(handle.decoder.model().layers.size())) return int(Status::wrong);
    handle.decoder.adapt(std::move(copied));
    return 0;
  } catch (...) {
    return int(Status::memory);
  }
}

int apprentice_decoder_forward(void* decoder, int64_t num_feeds, const int64_t* sequences, const int64_t* counts,
                               const int64_t* outputs, const int32_t* tokens, int is_prompt, float* log_probs) {
  try {
    Handle& handle = *static_cast<Handle*>(decoder);
    std::vector<Feed> feeds;
    for (int64_t i = 0; i < num_feeds; ++i) {
      if (counts[i] < 1 || sequences[i] < -1) return int(Status::wrong);
      feeds.push_back({sequences[i], tokens, counts[i], outputs[i]});
      tokens += counts[i];
    }
    std::lock_guard<std::mutex> lock(handle.only_one);
    return int(handle.decoder.forward(feeds, is_prompt != 0 ? Work::prompt : Work::step, log_probs));
  } catch (...) {
    return int(Status::memory);
  }
}

int apprentice_decoder_observe(void* decoder, const int32_t* tokens, int64_t count, float* sizes) {
  try {
    Handle& handle = *static_cast<Handle*>(decoder);
    std::lock_guard<std::mutex> lock(handle.only_one);
    return int(handle.decoder.observe(tokens, count, sizes));
  } catch (...) {
    return int(Status::memory);
  }
}

int64_t apprentice_decoder_open(void* decoder) {
  try {
    Handle& handle = *static_cast<Handle*>(decoder);
    std::lock_guard<std::mutex> lock(handle.only_one);
    return handle.decoder.pages().open();
  } catch (...) {
    return int(Status::memory);
  }
}

int apprentice_decoder_close(void* decoder, int64_t sequence) {
  return with_sequence(decoder, sequence, [=](Pages& pages) { return pages.close(sequence), 0; });
}

int64_t apprentice_decoder_length(void* decoder, int64_t sequence) {
  return with_sequence(decoder, sequence, [=](Pages& pages) { return pages.length(sequence); });
}

int apprentice_decoder_truncate(void* decoder, int64_t sequence, int64_t length) {
  return with_sequence(decoder, sequence, [=](Pages& pages) {
    if (length < 0 || length > pages.length(sequence)) return int(Status::wrong);
    return pages.truncate(sequence, length), 0;
  });
}

int64_t apprentice_decoder_restore(void* decoder, int64_t sequence, const int32_t* tokens, int64_t count) {
  return with_sequence(decoder, sequence, [=](Pages& pages) { return pages.restore(sequence, tokens, count); });
}

int apprentice_decoder_keep(void* decoder, int64_t sequence, const int32_t* tokens, int64_t count) {
  return with_sequence(decoder, sequence, [=](Pages& pages) { return pages.keep(sequence, tokens, count), 0; });
}

int64_t apprentice_decoder_available_pages(void* decoder) {
  Handle& handle = *static_cast<Handle*>(decoder);
  std::lock_guard<std::mutex> lock(handle.only_one);
  return handle.decoder.pages().available();
}

int64_t apprentice_decoder_kept_pages(void* decoder) {
  Handle& handle = *static_cast<Handle*>(decoder);
  std::lock_guard<std::mutex> lock(handle.only_one);
  return handle.decoder.pages().kept();
}
