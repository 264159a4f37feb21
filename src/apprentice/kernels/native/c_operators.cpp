#include "c_operators.h"

#include <vector>

#include "cpu.h"
#include "pages.h"

using namespace apprentice;

namespace {

template <typename Call>
int with(const char* variant, Call call) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr) return -1;
  call(*operators);
  return 0;
}

Pages& at(void* pages) { return *static_cast<Pages*>(pages); }

}  // namespace

int apprentice_operator_norm(const char* variant, const float* x, const float* weight, float epsilon, int64_t k, float* y) {
  return with(variant, [=](const Operators& o) { o.norm(x, weight, epsilon, k, y); });
}

int apprentice_operator_rotate(const char* variant, float* x, const float* cos, const float* sin, int64_t head_size) {
  return with(variant, [=](const Operators& o) { o.rotate(x, cos, sin, head_size); });
}

int apprentice_operator_gate(const char* variant, const float* gate, const float* up, int64_t k, float* y) {
  return with(variant, [=](const Operators& o) { o.gate(gate, up, k, y); });
}

int apprentice_operator_add(const char* variant, float* x, const float* y, int64_t k) {
  return with(variant, [=](const Operators& o) { o.add(x, y, k); });
}

int apprentice_operator_log_softmax(const char* variant, const float* x, int64_t k, double* log_sum, float* y) {
  return with(variant, [=](const Operators& o) {
    *log_sum = o.log_sum_exp(x, k);
    o.subtract(x, *log_sum, k, y);
  });
}

int apprentice_operator_remember(const char* variant, int in_bytes, const float* key, const float* value, int64_t head_size,
                                 int64_t slot, uint16_t* keys, uint16_t* values) {
  return with(variant, [=](const Operators& o) {
    (in_bytes ? o.remember_bytes : o.remember)(key, value, head_size, slot, keys, values);
  });
}

int apprentice_operator_attend(const char* variant, int in_bytes, const float* q, int64_t rows, int64_t group, int64_t head_size,
                               int64_t position, int64_t from, int64_t to, const uint16_t* pages, int64_t count, float* y,
                               float* most, float* sum) {
  const int64_t block = page_block(head_size, in_bytes != 0), width = group * head_size;
  std::vector<const uint16_t*> table;
  for (int64_t i = 0; i < count; ++i) table.push_back(pages + i * 2 * block);
  const Attention attention{q, width, rows, group, head_size, position, from, to, table.data(), 0, block,
                            y, width, most, sum, group};
  return with(variant, [&](const Operators& o) { (in_bytes ? o.attend_bytes : o.attend)(attention); });
}

void* apprentice_pages_new(int64_t limit, int64_t keep_limit) { return new Pages(kPage, limit, keep_limit); }
void apprentice_pages_free(void* pages) { delete &at(pages); }
int64_t apprentice_pages_open(void* pages) { return at(pages).open(); }
void apprentice_pages_close(void* pages, int64_t sequence) { at(pages).close(sequence); }
int64_t apprentice_pages_length(void* pages, int64_t sequence) { return at(pages).length(sequence); }
void apprentice_pages_truncate(void* pages, int64_t sequence, int64_t length) { at(pages).truncate(sequence, length); }

int apprentice_pages_append(void* pages, int64_t count, const int64_t* sequences, const int64_t* more, const int32_t* tokens) {
  const std::vector<int64_t> ids(sequences, sequences + count), counts(more, more + count);
  if (!at(pages).reserve(ids, counts)) return 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t past = at(pages).length(ids[i]);
    for (int64_t t = past; t < past + counts[i]; ++t) at(pages).table(ids[i])[t / kPage][t % kPage] = uint16_t(*tokens++);
    at(pages).advance(ids[i], counts[i]);
  }
  return 1;
}

void apprentice_pages_read(void* pages, int64_t sequence, int32_t* tokens) {
  for (int64_t t = 0; t < at(pages).length(sequence); ++t) tokens[t] = at(pages).table(sequence)[t / kPage][t % kPage];
}

int64_t apprentice_pages_restore(void* pages, int64_t sequence, const int32_t* tokens, int64_t count) {
  return at(pages).restore(sequence, tokens, count);
}

void apprentice_pages_keep(void* pages, int64_t sequence, const int32_t* tokens, int64_t count) {
  at(pages).keep(sequence, tokens, count);
}

int64_t apprentice_pages_available(void* pages) { return at(pages).available(); }
int64_t apprentice_pages_kept(void* pages) { return at(pages).kept(); }
