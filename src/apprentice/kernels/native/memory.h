// What the instant memory does at every token (`memory/index.py`, `memory/mixture.py` are the reference): the places whose
// preceding tokens agree with the text longest, what came next there, and that mixed with what the model says.
//
//   text --look--> Opinion of each source --mix (gate, the model's log-probabilities)--> log-probabilities of the mixture
//
// Nothing is allocated. A segment never changes; who looks keeps it alive.
#pragma once
#include <cstdint>

#include "operators.h"

namespace apprentice {

constexpr int64_t kMostMatch = 32;      // tokens that are compared
constexpr int64_t kMostPlaces = 32;     // places that an opinion is made of
constexpr int64_t kWindow = 4096;       // places looked at on one side of the spot, in each segment, where some are left out
constexpr int64_t kMostSegments = 64;
constexpr int64_t kMostSources = 16;
constexpr int kFeatures = 9;            // of a source, as `memory/gate.py` lists them
constexpr int32_t kRemoved = -2;        // the group of a document that is gone

// Documents written backwards one after the other, tokens raised by one, 0 in front of each document and kMostMatch of them at
// the end; and the order of their places. The key of a place is where the token in front of it stands.
struct Segment {
  const int32_t* backwards;
  const int32_t* keys;       // [count], sorted by what stands there
  const int32_t* documents;  // [count]
  const int32_t* places;     // [count], in the document
  int64_t count;
};

// An index as it was at one moment.
struct View {
  const Segment* segments;
  int64_t num_segments;
  const int32_t* groups;     // of each document; kRemoved
  int64_t without;           // a group to leave out; kRemoved: none
};

struct Place {
  int32_t token, length, document, position;
};

// What a source says comes next.
struct Opinion {
  int32_t num_places, num_tokens;  // 0: nothing
  Place places[kMostPlaces];       // the longest matches first, of equals the newest document
  int32_t tokens[kMostPlaces];     // in the order of their first place
  double shares[kMostPlaces];      // of the votes; they sum to 1
  int32_t best, length, count;     // the token with the largest share; the longest match, and how many are as long
};

// The places that agree with the end of a text longest. `text`: its last tokens, at most kMostMatch, the last one first.
void look(const View& view, const int32_t* text, int64_t size, Opinion* opinion);

struct Mixing {
  const Opinion* const* opinions;  // [sources], null where a source has none
  int64_t sources, region;         // `region`: which source is the lines that are replaced
  const double* weights;           // [sources, kFeatures]
  const double* hits;              // [sources]: how often each was right at the last tokens
};

// y = log(share of the model x exp(x) + shares of the sources x theirs); y may be x.
void mix(const Operators& operators, const Mixing& mixing, const float* x, int64_t vocab, float* y);

}  // namespace apprentice
