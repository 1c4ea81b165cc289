/* Merging a LoRA into a checkpoint in one file (single_file.h): the same file again, under the same names, which is
 * what ComfyUI and its like load. */
#ifndef DRPO_MODEL_CHECKPOINT_MERGE_H
#define DRPO_MODEL_CHECKPOINT_MERGE_H

#include "model/lora.h"

/* Reads `from`, writes `to` atomically and reads it back. Moving averages (model_ema.*) are left out: they would be
 * those of the model without the adapter. So are hashes in the metadata. */
int checkpoint_merge(const char *from, const Adapter *a, const char *to, Error *err);

#endif
