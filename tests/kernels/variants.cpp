// Holds every variant that this processor runs against the portable one, without Python: for processors that are emulated.
// Prints a line for each comparison that fails; the exit code is their number.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "baseline.h"
#include "cpu.h"
#include "tiles.h"

using namespace apprentice;

namespace {

int failures = 0;
std::mt19937 engine(0);

std::vector<float> normal(int64_t count, float size = 1) {
  std::normal_distribution<float> drawn(0, size);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = drawn(engine);
  return values;
}

template <typename T>
T* aligned(std::vector<T>& memory, int64_t count) {
  memory.assign(size_t(count) + 64 / sizeof(T), T());
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
}

// Within `tolerance` of the largest expected value.
void compare(const char* variant, const char* what, const std::vector<float>& found, const std::vector<float>& expected, float tolerance) {
  float largest = 0, worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::fmax(largest, std::fabs(expected[i]));
    const float difference = std::fabs(found[i] - expected[i]);
    if (!(difference <= worst)) worst = difference;
  }
  if (!(worst <= tolerance * largest)) {
    std::printf("%s %s: off by %g of %g\n", variant, what, worst, largest);
    ++failures;
  }
}

struct Results {
  std::vector<float> step, prompt, int8, floats, bf16, norm, rotated, gated, added, attended, subtracted;
  std::vector<Activations> records;
};

Results results(const Operators& o, int64_t outputs, int64_t inputs, int64_t rows) {
  engine.seed(unsigned(outputs * 31 + inputs * 7 + rows));
  const int64_t panels = round_up(outputs, kLanes) / kLanes, groups = round_up(inputs, kGroup) / kGroup, width = panels * kLanes;
  Results r;
  const std::vector<float> x = normal(rows * inputs), weights = normal(outputs * inputs, 0.1f);
  r.records.resize(size_t(groups * rows));
  for (int64_t m = 0; m < rows; ++m) o.quantize(x.data() + m * inputs, inputs, r.records.data() + m, rows);
  const Quantized quantized{r.records.data(), groups, rows};

  std::vector<uint8_t> codes(size_t(outputs * inputs / 2)), scales(size_t(outputs * inputs / 16)), memory;
  for (uint8_t& code : codes) code = uint8_t(engine());
  for (uint8_t& scale : scales) scale = uint8_t(engine() % 0x7F);
  uint8_t* tiles = aligned(memory, panels * groups * kNvfp4Tile);
  pack_nvfp4(codes.data(), scales.data(), outputs, inputs, 0, tiles);
  r.step.assign(size_t(rows * width), 0);
  r.prompt = r.int8 = r.floats = r.bf16 = r.step;
  o.nvfp4_step(tiles, 0.01f, quantized, rows, 0, panels, r.step.data(), width);
  o.nvfp4_prompt(tiles, 0.01f, quantized, rows, 0, panels, r.prompt.data(), width);
  uint8_t* bytes = aligned(memory, panels * groups * kInt8Tile);
  clear_int8(bytes, panels * groups);
  pack_int8(weights.data(), outputs, inputs, 0, bytes);
  o.int8_product(bytes, quantized, rows, 0, panels, r.int8.data(), width);

  std::vector<float> float_memory;
  float* packed = aligned(float_memory, baseline_size(outputs, inputs));
  pack_float(weights.data(), outputs, inputs, 0, packed);
  o.float_product(packed, inputs, x.data(), inputs, rows, 0, panels, r.floats.data(), width);
  std::vector<uint16_t> halves(weights.size()), half_memory;
  for (size_t i = 0; i < weights.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &weights[i], 4);
    halves[i] = uint16_t(bits >> 16);
  }
  uint16_t* half_packed = aligned(half_memory, baseline_size(outputs, inputs));
  pack_bf16(halves.data(), outputs, inputs, 0, half_packed);
  o.bf16_product(half_packed, inputs, x.data(), inputs, rows, 0, panels, r.bf16.data(), width);

  r.norm.resize(size_t(inputs));
  o.norm(x.data(), weights.data(), 1e-5f, inputs, r.norm.data());
  r.rotated.assign(x.begin(), x.begin() + inputs / 2 * 2);
  o.rotate(r.rotated.data(), weights.data(), weights.data() + inputs / 2, inputs / 2 * 2);
  r.gated.resize(size_t(inputs));
  o.gate(x.data(), weights.data(), inputs, r.gated.data());
  r.added = x;
  o.add(r.added.data(), x.data(), inputs);
  r.subtracted.resize(size_t(inputs));
  o.subtract(x.data(), o.log_sum_exp(x.data(), inputs), inputs, r.subtracted.data());

  // One key head of size 48 with 3 queries, 100 tokens in two pages, the last 5 as rows.
  constexpr int64_t size = 48, group = 3, tokens = 100, last = 5;
  std::vector<uint16_t> pages[2];
  const uint16_t* table[2] = {aligned(pages[0], 2 * size * kPage), aligned(pages[1], 2 * size * kPage)};
  const std::vector<float> keys = normal(tokens * size), values = normal(tokens * size), q = normal(last * group * size);
  for (int64_t t = 0; t < tokens; ++t) {
    uint16_t* page = const_cast<uint16_t*>(table[t / kPage]);
    o.remember(keys.data() + t * size, values.data() + t * size, size, t % kPage, page, page + size * kPage);
  }
  std::vector<float> most(last * group), sum(last * group);
  r.attended.resize(last * group * size);
  Attention a{};
  a.q = q.data(), a.q_stride = group * size, a.rows = last, a.group = group, a.head_size = size, a.position = tokens - last;
  a.from = 0, a.to = tokens, a.pages = table, a.keys = 0, a.values = size * kPage;
  a.y = r.attended.data(), a.y_stride = group * size, a.most = most.data(), a.sum = sum.data(), a.most_stride = group;
  o.attend(a);
  r.attended.insert(r.attended.end(), most.begin(), most.end());
  r.attended.insert(r.attended.end(), sum.begin(), sum.end());
  return r;
}

}  // namespace

int main() {
  const Operators& plain = *find_variant("portable");
  for (const Operators* o : usable_variants()) {
    std::printf("variant %s\n", o->name);
    for (int64_t outputs : {16, 40, 33}) {
      for (int64_t inputs : {64, 80, 1120}) {
        for (int64_t rows : {1, 2, 3, 4, 7, 13}) {
          const Results found = results(*o, outputs, inputs, rows), expected = results(plain, outputs, inputs, rows);
          for (size_t i = 0; i < found.records.size(); ++i) {
            const int off = std::memcmp(found.records[i].values, expected.records[i].values, kGroup);
            if (off) std::printf("%s quantize: other values\n", o->name), ++failures;
          }
          compare(o->name, "nvfp4_step", found.step, expected.step, 1e-6f);
          compare(o->name, "nvfp4_prompt", found.prompt, expected.prompt, 0.02f);
          compare(o->name, "int8_product", found.int8, expected.int8, 1e-6f);
          compare(o->name, "float_product", found.floats, expected.floats, 1e-5f);
          compare(o->name, "bf16_product", found.bf16, expected.bf16, 0.02f);
          compare(o->name, "norm", found.norm, expected.norm, 1e-5f);
          compare(o->name, "rotate", found.rotated, expected.rotated, 1e-5f);
          compare(o->name, "gate", found.gated, expected.gated, 1e-5f);
          compare(o->name, "add", found.added, expected.added, 0);
          compare(o->name, "attend", found.attended, expected.attended, 1e-4f);
          compare(o->name, "log_sum_exp", found.subtracted, expected.subtracted, 1e-5f);
        }
      }
    }
  }
  return failures;
}
