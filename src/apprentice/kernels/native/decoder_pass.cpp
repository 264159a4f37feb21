#include "decoder_pass.h"

#include "pool.h"
#include "tiles.h"

namespace apprentice {

int64_t Pass::parts(int64_t row) const { return work == Work::step ? position(row) / kPart + 1 : 1; }

// In turn to the threads' shares.
static std::vector<Pass::Piece> dealt(const std::vector<Pass::Piece>& pieces, int threads) {
  std::vector<Pass::Piece> found(pieces.size());
  const int64_t count = int64_t(pieces.size());
  std::vector<int64_t> next;
  for (int thread = 0; thread < threads; ++thread) next.push_back(Pool::begin(count, thread, threads));
  int thread = 0;
  for (const Pass::Piece& piece : pieces) {
    while (next[thread] == Pool::begin(count, thread + 1, threads)) thread = (thread + 1) % threads;
    found[next[thread]++] = piece;
    thread = (thread + 1) % threads;
  }
  return found;
}

void Pass::plan_attention(int64_t kv_heads, int threads) {
  for (int64_t s = 0; s < int64_t(slices.size()); ++s) {
    const Slice& slice = slices[s];
    const int64_t parts_here = parts(slice.first + slice.rows - 1), block = work == Work::step ? slice.rows : kBlockRows;
    num_parts = std::max(num_parts, parts_here);
    // The longest first, so that none of them is alone at the end.
    for (int64_t first = (slice.rows - 1) / block * block; first >= 0; first -= block) {
      for (int64_t part = 0; part < parts_here; ++part) {
        for (int64_t head = 0; head < kv_heads; ++head) {
          attention.push_back({s, head, first, std::min(block, slice.rows - first), part});
        }
      }
    }
  }
  attention = dealt(attention, threads);
}

std::vector<Pass> plan(const std::vector<Feed>& feeds, const std::vector<int64_t>& sequences, const Pages& pages, Work work,
                       int64_t kv_heads, int threads) {
  std::vector<Pass> passes;
  for (size_t i = 0; i < feeds.size(); ++i) {
    for (int64_t at = 0; at < feeds[i].count;) {
      if (passes.empty() || passes.back().rows == kPassRows) {
        passes.emplace_back();
        passes.back().work = work;
      }
      Pass& pass = passes.back();
      const int64_t rows = std::min(feeds[i].count - at, kPassRows - pass.rows);
      pass.slices.push_back({sequences[i], pass.rows, rows, pages.length(sequences[i]) + at, pages.table(sequences[i])});
      for (int64_t row = 0; row < rows; ++row, ++at) {
        pass.slice_of.push_back(int64_t(pass.slices.size()) - 1);
        pass.tokens.push_back(feeds[i].tokens[at]);
        pass.wanted.push_back(at >= feeds[i].count - feeds[i].outputs);
      }
      pass.rows += rows;
    }
  }
  for (Pass& pass : passes) pass.plan_attention(kv_heads, threads);
  return passes;
}

Buffers::Buffers(const Model& model, int threads)
    : x_stride(round_up(model.hidden, kGroup)),
      qkv_stride(round_up((model.heads + 2 * model.kv_heads) * model.head_size, kGroup)),
      y_stride(round_up(model.heads * model.head_size, kGroup)),
      inner_stride(round_up(model.inner, kGroup)),
      logits_stride(round_up(model.vocab, kGroup)),
      scratch(size_t(threads)),
      scratch_(size_t(threads)) {}

void Buffers::resize(const Model& model, int64_t rows, int64_t num_parts) {
  const int64_t either = std::max(rows, kHeadRows), planes = rows * (model.head_size / 2);
  x = x_.at(rows * x_stride);
  normed = normed_.at(either * x_stride);
  qkv = qkv_.at(rows * qkv_stride);
  y = y_.at(rows * y_stride);
  parts = parts_.at(num_parts * rows * y_stride);
  most = most_.at(num_parts * rows * model.heads);
  sum = sum_.at(num_parts * rows * model.heads);
  inner = inner_.at(rows * inner_stride);
  cos = cos_.at(2 * planes);
  sin = sin_.at(2 * planes);
  records = records_.at(either * std::max(x_stride, y_stride) / kGroup);
  inner_records = inner_records_.at(rows * inner_stride / kGroup);
}

void Buffers::resize_narrow(int64_t rows, int64_t rank) {
  narrow_stride = (rank + 15) / 16 * 16;
  narrow = narrow_.at(rows * narrow_stride);
}

void Buffers::resize_head(int64_t rows, int64_t pieces) {
  logits = logits_.at(rows * logits_stride);
  log_sums = log_sums_.at(rows * pieces);
}

void Buffers::resize_scratch(int64_t count) {
  for (size_t i = 0; i < scratch.size(); ++i) scratch[i] = scratch_[i].at(count);
}

}  // namespace apprentice
