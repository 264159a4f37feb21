// What a decoder remembers: keys and values of many sequences, in pages of 64 tokens out of one bounded stock.
//
//   sequence --> [page, page, page ...] --> each page: all layers, all key heads, 64 tokens
//                        ^
//   prefixes --> tree of whole pages of earlier prompts, by their 64 tokens; least recently used leaves are dropped first
//
// Pages are shared by counting their users. A sequence that begins like an earlier prompt takes that prompt's pages as
// they are; nothing is copied. A page with another user is never written: only whole pages are shared, and a sequence
// that was cut back into one of them gets a copy of its own before it goes on.
//
// A kept page is bit for bit what would be computed again, because a token's keys and values depend on the tokens
// before it and on nothing else; so answers do not depend on what was asked before. Prefixes are found by comparing the
// tokens themselves, not hashes of them alone: no collision gives one prompt the memory of another.
//
// The size of a page: of a sequence half a page lies idle, 32 tokens. One key head's keys of 64 tokens (E = 64: 8 KiB)
// are long enough to be read at the speed of memory, and 64 goes into the 128 tokens that prompts are cut at.
//
// A full stock is an answer (`reserve` returns false and has changed nothing). Who schedules closes a sequence then and
// reads its tokens again later; its prompt may still be among the prefixes. Not safe for several threads at a time.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "operators.h"

namespace apprentice {

class Pages {
 public:
  // A page holds `halves` numbers. At most `limit` pages, made when they are first needed, `keep_limit` of them in
  // prefixes.
  Pages(int64_t halves, int64_t limit, int64_t keep_limit);

  // A new, empty sequence; sequences are numbers from 0 on.
  int64_t open();
  void close(int64_t sequence);
  bool is_open(int64_t sequence) const;
  // Tokens whose keys and values are there.
  int64_t length(int64_t sequence) const;
  // Forgets what is behind the first `length` tokens.
  void truncate(int64_t sequence, int64_t length);

  // Room for more[i] tokens behind those of sequence ids[i], each sequence at most once: all or nothing.
  bool reserve(const std::vector<int64_t>& ids, const std::vector<int64_t>& more);
  // The tokens that there was room made for have been written.
  void advance(int64_t sequence, int64_t count);
  // The pages of a sequence, in order.
  uint16_t* const* table(int64_t sequence) const;

  // Gives an empty sequence the whole pages that are known of these tokens; how many tokens that were.
  int64_t restore(int64_t sequence, const int32_t* tokens, int64_t count);
  // Remembers the whole pages among a sequence's first `count` tokens, which are these.
  void keep(int64_t sequence, const int32_t* tokens, int64_t count);

  // Forgets all prefixes; sequences keep their pages.
  void forget();

  int64_t limit() const { return limit_; }
  // Pages that `reserve` could hand out: unused ones and those that only prefixes use.
  int64_t available() const;
  // Pages in prefixes.
  int64_t kept() const { return int64_t(prefixes_.size()); }

 private:
  struct Free {
    void operator()(uint16_t* data) const;
  };
  struct Page {
    uint16_t* data;
    int64_t users = 0;
  };
  struct Sequence {
    bool is_open = false;
    int64_t length = 0;
    std::vector<int64_t> pages;
    std::vector<uint16_t*> table;
  };
  // A prefix of whole pages: the prefix before the last page, by its number, and the last page's tokens.
  struct Key {
    uint64_t parent;
    std::array<int32_t, kPage> tokens;
    bool operator==(const Key& other) const { return parent == other.parent && tokens == other.tokens; }
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  struct Prefix {
    int64_t page;
    uint64_t number;  // never given twice
    uint64_t used;    // the later, the larger; a prefix is always later than those that it is the beginning of
  };
  using Prefixes = std::unordered_map<Key, Prefix, Hash>;
  using Chain = std::vector<Prefixes::value_type*>;

  bool make_room(int64_t needed);
  bool make_pages();
  int64_t take_page();
  void release(int64_t page);
  void resize(Sequence& sequence, int64_t num_pages);
  void drop(Prefixes::iterator prefix);
  void touch(const Chain& chain);

  int64_t halves_, limit_, keep_limit_;
  std::vector<std::unique_ptr<uint16_t, Free>> slabs_;
  std::vector<Page> pages_;
  std::vector<int64_t> free_;
  std::vector<Sequence> sequences_;
  Prefixes prefixes_;
  std::map<uint64_t, Key> by_use_;
  uint64_t numbers_ = 0, uses_ = 0;
};

}  // namespace apprentice
