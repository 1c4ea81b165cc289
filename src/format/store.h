/* Storing float32 numbers in the types of weight files, rounded to nearest even. Reading them: engine/tensor.h. */
#ifndef DRPO_FORMAT_STORE_H
#define DRPO_FORMAT_STORE_H

#include "engine/tensor.h"

uint16_t f16_from_f32(float x);
uint16_t bf16_from_f32(float x);
/* data[i] = value; `t` is a float type */
void dtype_store(DType t, void *data, size_t i, float value);

#endif
