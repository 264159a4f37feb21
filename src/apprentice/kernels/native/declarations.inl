// The functions of one variant, in the namespace APPRENTICE_VARIANT. See `operators.h` for what each does.
#include "operators.h"

namespace apprentice::APPRENTICE_VARIANT {

void quantize(const float* x, int64_t k, Activations* to, int64_t stride);
void nvfp4_step(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                int64_t y_stride);
void nvfp4_prompt(const uint8_t* tiles, float factor, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride);
void int8_product(const uint8_t* tiles, const Quantized& x, int64_t rows, int64_t first, int64_t last, float* y,
                  int64_t y_stride);

}  // namespace apprentice::APPRENTICE_VARIANT
