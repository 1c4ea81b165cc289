/* Gradients of an adapter as a safetensors file, named as PEFT names the weights (comparisons with other
 * implementations). */
#ifndef DRPO_TRAIN_GRADIENTS_H
#define DRPO_TRAIN_GRADIENTS_H

#include "model/lora.h"

/* grad [a->count] */
int gradients_write(const char *path, const Adapter *a, const float *grad, Error *err);

#endif
