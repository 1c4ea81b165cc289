/* Random start: weights that have learnt nothing, as PyTorch's layers begin: uniform in +-1/sqrt(inputs of the layer),
 * norms at 1 and 0. Where a network of one's own comes from. */
#ifndef DRPO_MODEL_RANDOM_START_H
#define DRPO_MODEL_RANDOM_START_H

#include "model/lora.h"

/* Every value of `a` (full_weights.h), from the seed and the tensor's place in its file alone. */
void random_start(Adapter *a, uint64_t seed);

#endif
