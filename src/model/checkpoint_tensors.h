/* Checkpoint tensors: one of a file's tensors under the name, or the three names, and in the shape that the networks
 * here want (checkpoint_names.h says which). Data stays where it is, except for transposed matrices. */
#ifndef DRPO_MODEL_CHECKPOINT_TENSORS_H
#define DRPO_MODEL_CHECKPOINT_TENSORS_H

#include "format/safetensors.h"
#include "model/checkpoint_names.h"
#include "model/weights.h"

enum { CHECKPOINT_PARTS = 3 }; /* a tensor becomes so many at most */

/* Appends to parts->tensor, which has room. */
int checkpoint_tensors_add(WeightsParts *parts, const SafeTensor *from, const CheckpointName *to, Error *err);

#endif
