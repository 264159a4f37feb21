// What a decoder does beside its matrices, written once in `Lanes`; included by one file for each variant.
//
// Attention reads a page of keys, then the page of values, and carries the largest score, the sum and the weighted
// values from page to page (online softmax, arXiv:1805.02867): every key and value is read once for all query heads of
// its key head and for several rows. A lane is a token where keys are read and an element where values are, so that
// nothing is ever added across lanes, and each score and each output is a sum in the order of elements or of tokens:
// whatever is computed together, the bits are the same.
//
// Letters: E values of a head, Q queries worked on together, T tiles of 16.
#include "declarations.inl"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(APPRENTICE_LANES_NEON)
#include <arm_neon.h>
#endif

namespace apprentice::APPRENTICE_VARIANT {
namespace {

#include "lanes.inl"

constexpr int64_t kSumPart = 1024;  // floats added up as such; beyond, their sums are added up as doubles

// each(at, count) for 16 values after another, `count` of them real.
template <typename Each>
inline void in_lanes(int64_t k, Each each) {
  int64_t at = 0;
  for (; at + 16 <= k; at += 16) each(at, 16);
  if (at < k) each(at, int(k - at));
}

inline Lanes load_some(const float* x, int n) { return n == 16 ? load(x) : load_first(x, n); }
inline void store_some(const Lanes& a, float* x, int n) {
  if (n == 16) {
    store(a, x);
  } else {
    store_first(a, x, n);
  }
}

constexpr int kQueries = kRoom;         // most queries worked on together
constexpr int tiles_for(int queries) {  // as many tiles at once as the registers hold sums
  return queries * 4 <= kSums ? 4 : queries * 2 <= kSums ? 2 : 1;
}

// What keys and values are stored as. Bytes have a scale for each token, behind the codes: it goes to the score of a key,
// and to the weight of a value, so that nothing is multiplied by it element by element.
struct Halves {
  using Value = uint16_t;
  static constexpr bool kHasScales = false;
  static Lanes read(const Value* x) { return load_half(x); }
};
struct Bytes {
  using Value = int8_t;
  static constexpr bool kHasScales = true;
  static Lanes read(const Value* x) { return load_bytes(x); }
};

template <typename Cell>
const typename Cell::Value* codes(const uint16_t* block) {
  return reinterpret_cast<const typename Cell::Value*>(block);
}

// [kPage], behind the codes of keys or values. A page is made of whole cache lines.
inline const float* scales_of(const uint16_t* block, int64_t head_size) {
  return reinterpret_cast<const float*>(reinterpret_cast<const int8_t*>(block) + (head_size + 15) / 16 * 16 * kPage);
}

// Asks for the `bytes` of memory from `next + at` on: what is read a page later lies elsewhere, where the processor
// does not expect it. Into the second-level cache, for which more lines can be under way than for the first.
inline void ask_for(const void* next, int64_t at, int bytes) {
  for (int line = 0; line < bytes; line += 64) __builtin_prefetch(static_cast<const char*>(next) + at + line, 0, 2);
}

// Scores of Q queries with one page. q [E, kQueries] -> scores [Q, kPage].
template <typename Cell, int Q>
void score_page(const float* q, int64_t head_size, const uint16_t* block, int num_tiles, const uint16_t* next, float* scores) {
  constexpr int T = tiles_for(Q), kWidth = 16 * sizeof(typename Cell::Value);
  const auto* keys = codes<Cell>(block);
  for (int tile = 0; tile < num_tiles; tile += T) {
    const auto* from = keys + tile * head_size * 16;
    Lanes sums[T][Q];
    for (int t = 0; t < T; ++t) {
      for (int i = 0; i < Q; ++i) sums[t][i] = splat(0);
    }
    for (int64_t e = 0; e < head_size; ++e) {
      ask_for(next, (tile * head_size + e * T) * kWidth, T * kWidth);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const Lanes key = Cell::read(from + (t * head_size + e) * 16);
#pragma GCC unroll 8
        for (int i = 0; i < Q; ++i) sums[t][i] = multiply_add(splat(q[e * kQueries + i]), key, sums[t][i]);
      }
    }
    for (int t = 0; t < T; ++t) {
      const int64_t token = (tile + t) * 16;
      if constexpr (Cell::kHasScales) {
        const Lanes scale = load(scales_of(block, head_size) + token);
        for (int i = 0; i < Q; ++i) sums[t][i] = sums[t][i] * scale;
      }
      for (int i = 0; i < Q; ++i) store(sums[t][i], scores + i * kPage + token);
    }
  }
}

// sums [Q, E rounded up] times `factors`, plus weights [Q, kPage] x the values of the tokens [first, last).
template <typename Cell, int Q, int T>
inline void weigh_strips(const float* weights, const float* factors, const typename Cell::Value* values, int64_t first,
                         int64_t last, const typename Cell::Value* next, float* sums, int64_t stride) {
  constexpr int kWidth = 16 * sizeof(typename Cell::Value);
  Lanes total[T][Q];
  for (int t = 0; t < T; ++t) {
    for (int i = 0; i < Q; ++i) total[t][i] = load(sums + i * stride + t * 16) * splat(factors[i]);
  }
  for (int64_t token = first; token < last; ++token) {
    ask_for(next, token * T * kWidth, T * kWidth);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const Lanes value = Cell::read(values + (t * kPage + token) * 16);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) total[t][i] = multiply_add(splat(weights[i * kPage + token]), value, total[t][i]);
    }
  }
  for (int t = 0; t < T; ++t) {
    for (int i = 0; i < Q; ++i) store(total[t][i], sums + i * stride + t * 16);
  }
}

template <typename Cell, int Q>
void weigh_page(const float* weights, const float* factors, const uint16_t* block, int64_t strips, int64_t first,
                int64_t last, const uint16_t* next_block, float* sums, int64_t stride) {
  constexpr int T = tiles_for(Q);
  const auto *values = codes<Cell>(block), *next = codes<Cell>(next_block);
  int64_t strip = 0;
  for (; strip + T <= strips; strip += T) {
    const int64_t at = strip * kPage * 16;
    weigh_strips<Cell, Q, T>(weights, factors, values + at, first, last, next + at, sums + strip * 16, stride);
  }
  for (; strip < strips; ++strip) {
    const int64_t at = strip * kPage * 16;
    weigh_strips<Cell, Q, 1>(weights, factors, values + at, first, last, next + at, sums + strip * 16, stride);
  }
}

// Q queries from number `first` of rows * group on.
template <typename Cell, int Q>
void attend_queries(const Attention& a, int64_t first) {
  alignas(64) float q[kMaxHead * kQueries];
  alignas(64) float sums[kQueries * kMaxHead];
  alignas(64) float scores[kQueries * kPage];
  const int64_t strips = (a.head_size + 15) / 16, stride = strips * 16;
  const float infinity = __builtin_inff();
  const float ones[1] = {1};
  float most[Q], factors[16] = {};
  Lanes weight_sums[Q];
  int64_t seen[Q], all_seen = 0;  // keys that each sees, up to a.to
  for (int i = 0; i < Q; ++i) {
    const int64_t row = (first + i) / a.group, head = (first + i) % a.group;
    const float* from = a.q + row * a.q_stride + head * a.head_size;
    for (int64_t e = 0; e < a.head_size; ++e) q[e * kQueries + i] = from[e];
    for (int64_t e = 0; e < stride; ++e) sums[i * stride + e] = 0;
    const int64_t keys = a.position + row + 1;
    seen[i] = keys < a.to ? keys : a.to;
    if (seen[i] > all_seen) all_seen = seen[i];
    most[i] = -infinity;
    weight_sums[i] = splat(0);
  }
  for (int64_t start = a.from; start < all_seen; start += kPage) {
    const uint16_t* page = a.pages[start / kPage];
    const int64_t longest = all_seen - start < kPage ? all_seen - start : kPage;
    const uint16_t* next = start + kPage < all_seen ? a.pages[start / kPage + 1] + a.keys : page + a.keys;
    score_page<Cell, Q>(q, a.head_size, page + a.keys, int(longest + 15) / 16, page + a.values, scores);
    int64_t count[Q], common = kPage;
    for (int i = 0; i < Q; ++i) {
      const int64_t left = seen[i] - start;
      count[i] = left < 0 ? 0 : left < kPage ? left : kPage;
      if (count[i] < common) common = count[i];
      float* row = scores + i * kPage;
      Lanes largest = splat(most[i]);
      for (int64_t at = 0; at < count[i]; at += 16) {
        const Lanes score = first_of(load(row + at), splat(-infinity), count[i] - at < 16 ? int(count[i] - at) : 16);
        store(score, row + at);
        largest = larger(largest, score);
      }
      const float now = count[i] > 0 ? largest_of(largest) : most[i];
      // Keys seen for the first time: what was summed up before is nothing, and counts nothing.
      factors[i] = now == most[i] ? 0 : most[i] - now;
      most[i] = now;
    }
    store(exponential(load(factors)), factors);
    for (int i = 0; i < Q; ++i) {
      float* row = scores + i * kPage;
      weight_sums[i] = weight_sums[i] * splat(factors[i]);
      for (int64_t at = 0; at < count[i]; at += 16) {
        const Lanes weight = exponential(load(row + at) - splat(most[i]));
        weight_sums[i] = weight_sums[i] + weight;
        if constexpr (Cell::kHasScales) {
          store(weight * load(scales_of(page + a.values, a.head_size) + at), row + at);
        } else {
          store(weight, row + at);
        }
      }
    }
    weigh_page<Cell, Q>(scores, factors, page + a.values, strips, 0, common, next, sums, stride);
    // Not weight zero for keys that a query does not see: zero times infinity is no number.
    for (int i = 0; i < Q; ++i) {
      if (count[i] > common) {
        weigh_page<Cell, 1>(scores + i * kPage, ones, page + a.values, strips, common, count[i], next, sums + i * stride,
                      stride);
      }
    }
  }
  for (int i = 0; i < Q; ++i) {
    const int64_t row = (first + i) / a.group, head = (first + i) % a.group;
    float* to = a.y + row * a.y_stride + head * a.head_size;
    in_lanes(a.head_size, [&](int64_t at, int n) { store_some(load(sums + i * stride + at), to + at, n); });
    a.most[row * a.most_stride + head] = most[i];
    a.sum[row * a.most_stride + head] = sum_of(weight_sums[i]);
  }
}

// Q queries at a time, then the rest Q - 1, Q - 2 ... at a time.
template <typename Cell, int Q>
void attend_from(const Attention& a, int64_t first) {
  const int64_t all = a.rows * a.group;
  for (; first + Q <= all; first += Q) attend_queries<Cell, Q>(a, first);
  if constexpr (Q > 1) {
    if (first < all) attend_from<Cell, Q - 1>(a, first);
  }
}

// Codes of E values, each where `place(e)` says, and their scale: the largest is 127. With a value that is not
// finite all codes are 0 and the scale is NaN.
template <typename Place>
float to_bytes(const float* x, int64_t head_size, Place place) {
  float most = 0;
  bool is_finite = true;
  for (int64_t e = 0; e < head_size; ++e) {
    const float size = __builtin_fabsf(x[e]);
    is_finite = is_finite && size <= 3.402823466e38f;
    most = size > most ? size : most;
  }
  const float inverse = is_finite && most > 0 ? 127 / most : 0;
  // The inverse of the smallest numbers is infinite: they are nothing.
  const bool is_some = inverse > 0 && inverse <= 3.402823466e38f;
  for (int64_t e = 0; e < head_size; ++e) *place(e) = is_some ? int8_t(__builtin_nearbyintf(x[e] * inverse)) : int8_t(0);
  return !is_finite ? __builtin_nanf("") : is_some ? most / 127 : 0;
}

}  // namespace

void norm(const float* x, const float* weight, float epsilon, int64_t k, float* y) {
  Lanes squares = splat(0), others = splat(0);
  in_lanes(k, [&](int64_t at, int n) {
    const Lanes value = load_some(x + at, n);
    Lanes& sum = at & 16 ? others : squares;
    sum = multiply_add(value, value, sum);
  });
  const Lanes root = splat(__builtin_sqrtf(sum_of(squares + others) / float(k) + epsilon));
  in_lanes(k, [&](int64_t at, int n) {
    store_some(load_some(x + at, n) / root * load_some(weight + at, n), y + at, n);
  });
}

void rotate(float* x, const float* cos, const float* sin, int64_t head_size) {
  float* y = x + head_size / 2;
  in_lanes(head_size / 2, [&](int64_t at, int n) {
    const Lanes a = load_some(x + at, n), b = load_some(y + at, n);
    const Lanes c = load_some(cos + at, n), s = load_some(sin + at, n);
    store_some(a * c - b * s, x + at, n);
    store_some(b * c + a * s, y + at, n);
  });
}

void gate(const float* gate, const float* up, int64_t k, float* y) {
  in_lanes(k, [&](int64_t at, int n) {
    const Lanes x = load_some(gate + at, n);
    const Lanes silu = x / (splat(1) + exponential(splat(0) - x));
    store_some(silu * load_some(up + at, n), y + at, n);
  });
}

void add(float* x, const float* y, int64_t k) {
  in_lanes(k, [&](int64_t at, int n) { store_some(load_some(x + at, n) + load_some(y + at, n), x + at, n); });
}

void add_rows(const float* factors, int64_t count, const float* rows, int64_t stride, int64_t k, float* y) {
  for (int64_t at = 0; at < k; at += 16) {
    Lanes sum = load(y + at);
    for (int64_t r = 0; r < count; ++r) sum = multiply_add(splat(factors[r]), load(rows + r * stride + at), sum);
    store(sum, y + at);
  }
}

void remember(const float* key, const float* value, int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values) {
  uint16_t* column = keys + slot / 16 * head_size * 16 + slot % 16;
  in_lanes(head_size, [&](int64_t at, int n) {
    uint16_t halves[16];
    store_half(load_some(key + at, n), halves);
    for (int l = 0; l < n; ++l) column[(at + l) * 16] = halves[l];
    store_half(load_some(value + at, n), values + at * kPage + slot * 16);
  });
}

void remember_bytes(const float* key, const float* value, int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values) {
  auto* column = reinterpret_cast<int8_t*>(keys) + slot / 16 * head_size * 16 + slot % 16;
  auto* row = reinterpret_cast<int8_t*>(values) + slot * 16;
  const_cast<float*>(scales_of(keys, head_size))[slot] = to_bytes(key, head_size, [=](int64_t e) { return column + e * 16; });
  const_cast<float*>(scales_of(values, head_size))[slot] =
      to_bytes(value, head_size, [=](int64_t e) { return row + e / 16 * kPage * 16 + e % 16; });
}

void attend(const Attention& attention) { attend_from<Halves, kQueries>(attention, 0); }

void attend_bytes(const Attention& attention) { attend_from<Bytes, kQueries>(attention, 0); }

double log_sum_exp(const float* x, int64_t k) {
  Lanes most = splat(-__builtin_inff());
  in_lanes(k, [&](int64_t at, int n) { most = larger(most, first_of(load_some(x + at, n), most, n)); });
  const float largest = largest_of(most);
  double total = 0;
  for (int64_t start = 0; start < k; start += kSumPart) {
    Lanes sum = splat(0);
    in_lanes(k - start < kSumPart ? k - start : kSumPart, [&](int64_t at, int n) {
      const Lanes e = exponential(load_some(x + start + at, n) - splat(largest));
      sum = sum + first_of(e, splat(0), n);
    });
    total += double(sum_of(sum));
  }
  return double(largest) + __builtin_log(total);
}

double entropy(const float* x, int64_t k) {
  double total = 0;
  for (int64_t start = 0; start < k; start += kSumPart) {
    Lanes sum = splat(0);
    in_lanes(k - start < kSumPart ? k - start : kSumPart, [&](int64_t at, int n) {
      const Lanes known = larger(load_some(x + start + at, n), splat(-60));
      sum = sum + first_of(exponential(known) * known, splat(0), n);
    });
    total -= double(sum_of(sum));
  }
  return total;
}

void subtract(const float* x, double by, int64_t k, float* y) {
  // In two parts, so that a likely token's small number is not lost beside a large sum.
  const Lanes most = splat(float(by)), rest = splat(float(by - double(float(by))));
  in_lanes(k, [&](int64_t at, int n) { store_some(load_some(x + at, n) - most - rest, y + at, n); });
}

}  // namespace apprentice::APPRENTICE_VARIANT
