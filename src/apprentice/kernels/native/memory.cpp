#include "memory.h"

#include <algorithm>
#include <cmath>

namespace apprentice {
namespace {

constexpr double kSharpness = 2, kSaturation = 16;  // of votes by length
constexpr double kFloor = -15;                      // log-probabilities below are no news to the gate
constexpr int64_t kAround = kMostPlaces;

double vote(int32_t length) { return std::exp(kSharpness * (std::min<double>(length, kSaturation) - kSaturation)); }

// The text that is looked for, raised by one like that of segments.
struct Query {
  int32_t tokens[kMostMatch];
  int64_t size;

  int compare(const int32_t* at) const {
    for (int64_t i = 0; i < size; ++i) {
      if (at[i] != tokens[i]) return at[i] < tokens[i] ? -1 : 1;
    }
    return 0;
  }
  int32_t length(const int32_t* at) const {
    int32_t same = 0;
    while (same < size && at[same] == tokens[same]) ++same;
    return same;
  }
};

// The best kMostPlaces of those that are offered.
class Best {
 public:
  void offer(const Place& place) {
    if (place.length == 0) return;
    if (count_ == kMostPlaces && !before(place, places_[count_ - 1])) return;
    int64_t at = count_ < kMostPlaces ? count_++ : count_ - 1;
    for (; at > 0 && before(place, places_[at - 1]); --at) places_[at] = places_[at - 1];
    places_[at] = place;
  }
  int64_t count() const { return count_; }
  const Place* begin() const { return places_; }
  const Place* end() const { return places_ + count_; }

 private:
  static bool before(const Place& a, const Place& b) {
    if (a.length != b.length) return a.length > b.length;
    if (a.document != b.document) return a.document > b.document;
    return a.position < b.position;
  }
  Place places_[kMostPlaces];
  int64_t count_ = 0;
};

class Search {
 public:
  Search(const View& view, const Query& query, Best* best) : view_(view), query_(query), best_(best) {}

  void run(const Segment& segment) {
    int64_t low = 0, high = segment.count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (query_.compare(segment.backwards + segment.keys[middle]) < 0) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    const int64_t first = std::max<int64_t>(low - kAround, 0), last = std::min(low + kAround, segment.count);
    bool all = true;
    for (int64_t row = first; row < last && all; ++row) all = allowed(segment, row);
    if (all) {
      for (int64_t row = first; row < last; ++row) offer(segment, row);
      return;
    }
    side(segment, low, segment.count, 1);
    side(segment, low - 1, -1, -1);
  }

 private:
  bool allowed(const Segment& segment, int64_t row) const {
    const int32_t group = view_.groups[segment.documents[row]];
    return group != kRemoved && (view_.without == kRemoved || group != view_.without);
  }

  void side(const Segment& segment, int64_t row, int64_t end, int64_t step) {
    // The window grows fourfold until it is as large as kWindow, and is looked at to its end.
    int64_t window = 4 * kAround;
    while (window < kWindow) window *= 4;
    for (int64_t taken = 0; row != end && window > 0 && taken < kAround; row += step, --window) {
      if (!allowed(segment, row)) continue;
      offer(segment, row);
      ++taken;
    }
  }

  void offer(const Segment& segment, int64_t row) {
    const int64_t key = segment.keys[row];
    best_->offer({segment.backwards[key - 1] - 1, query_.length(segment.backwards + key), segment.documents[row], segment.places[row]});
  }

  const View& view_;
  const Query& query_;
  Best* best_;
};

}  // namespace

void look(const View& view, const int32_t* text, int64_t size, Opinion* opinion) {
  opinion->num_places = opinion->num_tokens = 0;
  Query query;
  query.size = std::min(size, kMostMatch);
  if (query.size == 0) return;
  for (int64_t i = 0; i < query.size; ++i) query.tokens[i] = text[i] + 1;
  Best best;
  Search search(view, query, &best);
  for (int64_t i = 0; i < view.num_segments; ++i) search.run(view.segments[i]);
  if (best.count() == 0) return;
  double total = 0;
  for (const Place& place : best) {
    const double votes = vote(place.length);
    total += votes;
    opinion->places[opinion->num_places++] = place;
    int32_t at = 0;
    while (at < opinion->num_tokens && opinion->tokens[at] != place.token) ++at;
    if (at == opinion->num_tokens) {
      opinion->tokens[at] = place.token;
      opinion->shares[at] = 0;
      ++opinion->num_tokens;
    }
    opinion->shares[at] += votes;
  }
  int32_t most = 0;
  for (int32_t i = 0; i < opinion->num_tokens; ++i) {
    opinion->shares[i] /= total;
    if (opinion->shares[i] > opinion->shares[most]) most = i;
  }
  opinion->best = opinion->tokens[most];
  opinion->length = opinion->places[0].length;
  opinion->count = 0;
  for (const Place& place : best) opinion->count += place.length == opinion->length;
}

void mix(const Operators& operators, const Mixing& mixing, const float* x, int64_t vocab, float* y) {
  double scores[kMostSources], shares[1 + kMostSources], most = 0;
  const double entropy = operators.entropy(x, vocab);
  const Opinion* region = mixing.opinions[mixing.region];
  for (int64_t source = 0; source < mixing.sources; ++source) {
    const Opinion* known = mixing.opinions[source];
    scores[source] = -INFINITY;
    if (known == nullptr) continue;
    double top = 0;
    for (int32_t i = 0; i < known->num_tokens; ++i) {
      if (known->tokens[i] == known->best) top = known->shares[i];
    }
    const double log_prob = std::max(double(x[known->best]), -60.0);
    const bool repeats = source != mixing.region && region != nullptr && region->best == known->best;
    const double features[kFeatures] = {
        1, std::log1p(double(known->length)), std::log1p(double(known->count)), top, entropy, std::max(log_prob, kFloor),
        std::exp(log_prob), mixing.hits[source], repeats ? 1.0 : 0.0};
    scores[source] = 0;
    for (int i = 0; i < kFeatures; ++i) scores[source] += mixing.weights[source * kFeatures + i] * double(float(features[i]));
    most = std::max(most, scores[source]);
  }
  double total = shares[0] = std::exp(-most);
  for (int64_t source = 0; source < mixing.sources; ++source) total += shares[1 + source] = std::exp(scores[source] - most);
  operators.subtract(x, -std::log(std::max(shares[0] / total, 1e-30)), vocab, y);
  // Tokens that several sources name are added up first.
  int32_t tokens[kMostSources * kMostPlaces];
  double heard[kMostSources * kMostPlaces];
  int64_t count = 0;
  for (int64_t source = 0; source < mixing.sources; ++source) {
    const Opinion* known = mixing.opinions[source];
    for (int32_t i = 0; known != nullptr && i < known->num_tokens; ++i) {
      int64_t at = 0;
      while (at < count && tokens[at] != known->tokens[i]) ++at;
      if (at == count) {
        tokens[at] = known->tokens[i];
        heard[at] = 1e-30;
        ++count;
      }
      heard[at] += shares[1 + source] / total * known->shares[i];
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const double a = y[tokens[i]], b = std::log(heard[i]);
    y[tokens[i]] = float(std::max(a, b) + std::log1p(std::exp(-std::fabs(a - b))));
  }
}

}  // namespace apprentice
