#include "c_api.h"

#include <chrono>
#include <vector>

#include "cpu.h"
#include "pool.h"

using apprentice::Pool;

namespace {

const char* const compiled[] = {
#if defined(APPRENTICE_WITH_AVX512)
    "avx512",
#endif
#if defined(APPRENTICE_WITH_AVX2)
    "avx2",
#endif
#if defined(APPRENTICE_WITH_NEON)
    "neon",
#endif
#if defined(APPRENTICE_WITH_PORTABLE)
    "portable",
#endif
    nullptr,
};

}  // namespace

int apprentice_abi() { return APPRENTICE_ABI; }

const char* apprentice_compiled_variant(int64_t index) {
  const int64_t num = sizeof(compiled) / sizeof(*compiled);
  return index >= 0 && index < num ? compiled[index] : nullptr;
}

const char* apprentice_usable_variant(int64_t index) {
  const auto& variants = apprentice::usable_variants();
  return index >= 0 && index < static_cast<int64_t>(variants.size()) ? variants[index]->name : nullptr;
}

void* apprentice_pool_new(int threads) {
  try {
    return new Pool(threads);
  } catch (...) {
    return nullptr;
  }
}

void apprentice_pool_free(void* pool) { delete static_cast<Pool*>(pool); }

int apprentice_pool_threads(void* pool) { return static_cast<Pool*>(pool)->threads(); }

int64_t apprentice_pool_trial(void* pool, int64_t runs, int64_t count, int64_t work, int32_t* counts) {
  // Two workers of one number at a time would lose additions (and a sanitizer would see it).
  struct alignas(128) Done {
    int64_t pieces = 0;
  };
  Pool& threads = *static_cast<Pool*>(pool);
  std::vector<Done> done(threads.threads());
  const auto start = std::chrono::steady_clock::now();
  for (int64_t run = 0; run < runs; ++run) {
    threads.run(count, [&](int64_t i, int worker) {
      counts[i] += 1;
      done.at(worker).pieces += 1;
      for (int64_t turn = 0; turn < work; ++turn) __asm__ volatile("");
    });
  }
  const auto took = std::chrono::steady_clock::now() - start;
  int64_t all = 0;
  for (const Done& one : done) all += one.pieces;
  return all == runs * count ? std::chrono::duration_cast<std::chrono::nanoseconds>(took).count() : -1;
}
