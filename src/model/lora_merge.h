/* Merging a LoRA into files whatever their tensors are called: shared by lora_merge.c and checkpoint_merge.c. */
#ifndef DRPO_MODEL_LORA_MERGE_H
#define DRPO_MODEL_LORA_MERGE_H

#include "format/safetensors.h"
#include "model/lora.h"

typedef struct MergeList {
    const SafeTensor *tensor; /* [n] of the original, under the names that the file gets */
    const char *const *name;  /* [n] what diffusers' UNet calls each; NULL: belongs to another part */
    size_t n;
    const TextPair *metadata; /* [pairs] */
    size_t pairs;
    const char *from; /* the original, for messages */
} MergeList;

/* Writes them with W + (alpha/r) B A in every adapted layer, in the types of the original, and checks the file. */
int lora_merge_list(const MergeList *l, const Adapter *a, const char *path, Error *err);
/* Reads a merged file: adapted layers must be W + (alpha/r) B A within one rounding, all others the same bytes. */
int lora_merge_check(const MergeList *l, const Adapter *a, const char *path, Error *err);

#endif
