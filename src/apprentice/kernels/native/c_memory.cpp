#include "c_memory.h"

#include "cpu.h"

using namespace apprentice;

int apprentice_memory_look(const Segment* segments, int64_t num_segments, const int32_t* groups, int64_t without,
                           const int32_t* text, int64_t size, Opinion* opinion) {
  if (num_segments > kMostSegments) return -1;
  look({segments, num_segments, groups, without}, text, size, opinion);
  return opinion->num_places;
}

int apprentice_memory_mix(const char* variant, const Opinion* opinions, int64_t sources, int64_t region, const double* weights,
                          const double* hits, const float* x, int64_t vocab, float* y) {
  const Operators* operators = find_variant(variant);
  if (operators == nullptr || sources < 1 || sources > kMostSources || region < 0 || region >= sources) return -1;
  const Opinion* known[kMostSources];
  for (int64_t source = 0; source < sources; ++source) {
    known[source] = opinions[source].num_places > 0 ? &opinions[source] : nullptr;
    for (int32_t i = 0; i < opinions[source].num_tokens; ++i) {
      if (opinions[source].tokens[i] < 0 || opinions[source].tokens[i] >= vocab) return -1;
    }
  }
  mix(*operators, {known, sources, region, weights, hits}, x, vocab, y);
  return 0;
}
