// Threads that share numbered pieces of work. A worker that the system has put aside takes none; the others do its share.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace apprentice {

class Pool {
 public:
  // `threads`: with the calling one. 1 starts none.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const;

  // piece(i, worker) for each i in [0, count), each once; worker is in [0, threads()). A worker takes the pieces from `begin` of its
  // number to that of the next one in order, then what others have left. Returns when all are done. One caller at a time: a second
  // one waits. Exceptions must not leave `piece`.
  void run(int64_t count, const std::function<void(int64_t, int)>& piece);
  static int64_t begin(int64_t count, int worker, int threads) { return count * worker / threads; }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace apprentice
