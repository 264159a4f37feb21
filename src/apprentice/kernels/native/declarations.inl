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

void bf16_product(const uint16_t* weights, int64_t k, const float* x, int64_t x_stride, int64_t rows, int64_t first,
                  int64_t last, float* y, int64_t y_stride);
void float_product(const float* weights, int64_t k, const float* x, int64_t x_stride, int64_t rows, int64_t first, int64_t last,
                   float* y, int64_t y_stride);

void norm(const float* x, const float* weight, float epsilon, int64_t k, float* y);
void rotate(float* x, const float* cos, const float* sin, int64_t head_size);
void gate(const float* gate, const float* up, int64_t k, float* y);
void add(float* x, const float* y, int64_t k);
void add_rows(const float* factors, int64_t count, const float* rows, int64_t stride, int64_t k, float* y);
void remember(const float* key, const float* value, int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values);
void attend(const Attention& attention);
void remember_bytes(const float* key, const float* value, int64_t head_size, int64_t slot, uint16_t* keys, uint16_t* values);
void attend_bytes(const Attention& attention);
double log_sum_exp(const float* x, int64_t k);
double entropy(const float* x, int64_t k);
void subtract(const float* x, double by, int64_t k, float* y);

}  // namespace apprentice::APPRENTICE_VARIANT
