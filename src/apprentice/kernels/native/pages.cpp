#include "pages.h"

#include <algorithm>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace apprentice {
namespace {

constexpr int64_t kSlabBytes = 8 << 20;  // of memory asked for at a time
constexpr std::align_val_t kAlignment{2 << 20};

int64_t pages_for(int64_t tokens) { return (tokens + kPage - 1) / kPage; }

}  // namespace

void Pages::Free::operator()(uint16_t* data) const { ::operator delete(data, kAlignment); }

size_t Pages::Hash::operator()(const Key& key) const {
  uint64_t hash = key.parent;
  for (int32_t token : key.tokens) {
    hash = (hash ^ uint64_t(uint32_t(token))) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return size_t(hash);
}

Pages::Pages(int64_t halves, int64_t limit, int64_t keep_limit)
    : halves_(halves), limit_(limit), keep_limit_(std::min(keep_limit, limit)) {}

int64_t Pages::open() {
  const auto unused = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.is_open; });
  const int64_t id = unused - sequences_.begin();
  if (unused == sequences_.end()) sequences_.emplace_back();
  sequences_[id].is_open = true;
  return id;
}

void Pages::close(int64_t sequence) {
  resize(sequences_[sequence], 0);
  sequences_[sequence] = Sequence{};
}

bool Pages::is_open(int64_t sequence) const {
  return sequence >= 0 && sequence < int64_t(sequences_.size()) && sequences_[sequence].is_open;
}

int64_t Pages::length(int64_t sequence) const { return sequences_[sequence].length; }

void Pages::truncate(int64_t sequence, int64_t length) {
  Sequence& of = sequences_[sequence];
  of.length = std::min(of.length, length);
  resize(of, pages_for(of.length));
}

bool Pages::reserve(const std::vector<int64_t>& ids, const std::vector<int64_t>& more) {
  const auto must_copy = [this](const Sequence& of) {
    return of.length % kPage != 0 && pages_[of.pages[of.length / kPage]].users > 1;
  };
  int64_t needed = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const Sequence& of = sequences_[ids[i]];
    needed += std::max<int64_t>(pages_for(of.length + more[i]) - int64_t(of.pages.size()), 0);
    needed += more[i] > 0 && must_copy(of);
  }
  if (!make_room(needed)) return false;
  for (size_t i = 0; i < ids.size(); ++i) {
    Sequence& of = sequences_[ids[i]];
    if (more[i] > 0 && must_copy(of)) {
      const int64_t at = of.length / kPage, own = take_page();
      std::memcpy(pages_[own].data, of.table[at], size_t(halves_) * sizeof(uint16_t));
      release(of.pages[at]);
      of.pages[at] = own;
      of.table[at] = pages_[own].data;
    }
    resize(of, std::max<int64_t>(pages_for(of.length + more[i]), int64_t(of.pages.size())));
  }
  return true;
}

void Pages::advance(int64_t sequence, int64_t count) { sequences_[sequence].length += count; }

uint16_t* const* Pages::table(int64_t sequence) const { return sequences_[sequence].table.data(); }

int64_t Pages::restore(int64_t sequence, const int32_t* tokens, int64_t count) {
  Sequence& of = sequences_[sequence];
  if (of.length != 0) return 0;
  resize(of, 0);
  Chain chain;
  Key key{};
  for (int64_t start = 0; start + kPage <= count; start += kPage) {
    std::copy_n(tokens + start, kPage, key.tokens.begin());
    const auto found = prefixes_.find(key);
    if (found == prefixes_.end()) break;
    chain.push_back(&*found);
    key.parent = found->second.number;
    Page& page = pages_[found->second.page];
    ++page.users;
    of.pages.push_back(found->second.page);
    of.table.push_back(page.data);
  }
  touch(chain);
  of.length = int64_t(of.pages.size()) * kPage;
  return of.length;
}

void Pages::keep(int64_t sequence, const int32_t* tokens, int64_t count) {
  const Sequence& of = sequences_[sequence];
  // A chain longer than what may be kept would push out its own beginning.
  const int64_t num_pages = std::min(std::min(count, of.length) / kPage, keep_limit_);
  Chain chain;
  Key key{};
  for (int64_t at = 0; at < num_pages; ++at) {
    std::copy_n(tokens + at * kPage, kPage, key.tokens.begin());
    auto found = prefixes_.find(key);
    if (found == prefixes_.end()) {
      if (kept() == keep_limit_) drop(prefixes_.find(by_use_.begin()->second));
      found = prefixes_.emplace(key, Prefix{of.pages[at], ++numbers_, ++uses_}).first;
      by_use_.emplace(found->second.used, key);
      ++pages_[of.pages[at]].users;
    } else {
      // Used now, so that making room for the pages behind it does not drop it.
      touch({&*found});
    }
    chain.push_back(&*found);
    key.parent = found->second.number;
  }
  touch(chain);
}

int64_t Pages::available() const {
  int64_t count = limit_ - int64_t(pages_.size()) + int64_t(free_.size());
  for (const auto& [key, prefix] : prefixes_) count += pages_[prefix.page].users == 1;
  return count;
}

// `needed` unused pages, if need be by dropping prefixes that nothing else uses.
bool Pages::make_room(int64_t needed) {
  if (needed > available()) return false;
  while (int64_t(free_.size()) < needed && int64_t(pages_.size()) < limit_) {
    if (!make_pages()) break;
  }
  for (auto next = by_use_.begin(); int64_t(free_.size()) < needed && next != by_use_.end();) {
    const auto prefix = prefixes_.find(next->second);
    ++next;
    if (pages_[prefix->second.page].users == 1) drop(prefix);
  }
  return int64_t(free_.size()) >= needed;
}

// As many as fit a slab. In huge pages of the system, where it has them: attention reads a little here and a little
// there, and would look up an address every 4 KiB.
bool Pages::make_pages() {
  const int64_t page_bytes = halves_ * int64_t(sizeof(uint16_t));
  const int64_t count = std::min(std::max<int64_t>(kSlabBytes / page_bytes, 1), limit_ - int64_t(pages_.size()));
  void* slab = ::operator new(size_t(count * page_bytes), kAlignment, std::nothrow);
  if (slab == nullptr) return false;
  slabs_.emplace_back(static_cast<uint16_t*>(slab));
#if defined(__linux__)
  madvise(slab, size_t(count * page_bytes), MADV_HUGEPAGE);
#endif
  for (int64_t i = 0; i < count; ++i) pages_.push_back({slabs_.back().get() + i * halves_});
  // Handed out from the back: those of the lowest address first.
  for (int64_t i = 1; i <= count; ++i) free_.push_back(int64_t(pages_.size()) - i);
  return true;
}

int64_t Pages::take_page() {
  const int64_t page = free_.back();
  free_.pop_back();
  pages_[page].users = 1;
  return page;
}

void Pages::release(int64_t page) {
  if (--pages_[page].users == 0) free_.push_back(page);
}

void Pages::resize(Sequence& sequence, int64_t num_pages) {
  while (int64_t(sequence.pages.size()) > num_pages) {
    release(sequence.pages.back());
    sequence.pages.pop_back();
    sequence.table.pop_back();
  }
  while (int64_t(sequence.pages.size()) < num_pages) {
    sequence.pages.push_back(take_page());
    sequence.table.push_back(pages_[sequence.pages.back()].data);
  }
}

void Pages::forget() {
  while (!prefixes_.empty()) drop(prefixes_.begin());
}

void Pages::drop(Prefixes::iterator prefix) {
  release(prefix->second.page);
  by_use_.erase(prefix->second.used);
  prefixes_.erase(prefix);
}

// The end of a chain first: what is dropped before others is never what they go on from.
void Pages::touch(const Chain& chain) {
  for (auto link = chain.rbegin(); link != chain.rend(); ++link) {
    Prefix& prefix = (*link)->second;
    by_use_.erase(prefix.used);
    prefix.used = ++uses_;
    by_use_.emplace(prefix.used, (*link)->first);
  }
}

}  // namespace apprentice
