/* OpenCLIP's names of a CLIP model's tensors ("visual.conv1.weight"), as transformers' ("vision_model.embeddings...").
 */
#ifndef DRPO_MODEL_CLIP_NAMES_H
#define DRPO_MODEL_CLIP_NAMES_H

#include "model/checkpoint_names.h"

/* false: OpenCLIP has no such tensor. component NULL: known and not needed. */
bool clip_name(const char *original, CheckpointName *out);

#endif
