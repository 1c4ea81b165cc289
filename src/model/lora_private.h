/* Shared by lora.c, lora_names.c, lora_read.c, lora_write.c and lora_merge.c only. */
#ifndef DRPO_MODEL_LORA_PRIVATE_H
#define DRPO_MODEL_LORA_PRIVATE_H

#include "base/arena.h"
#include "model/lora.h"

enum { LORA_NAME_LENGTH = 256 };

/* lora_register with a rank and a scale of its own, as files may have. */
int lora_register_pair(Adapter *a, const char *module, int64_t in, int64_t out, int rank, float scale, Error *err);

typedef enum LoraPart { LORA_DOWN, LORA_UP, LORA_ALPHA, LORA_PARTS } LoraPart;

/* Whether the text is the module's name or its last parts, as "to_q" of "mid_block...to_q". */
bool lora_names_module(const char *text, const char *module);
/* "unet.mid_block...to_q.lora_A.weight" -> "mid_block...to_q", LORA_DOWN. False: not a name of any known layout. */
bool lora_key_parse(const char *key, char module[LORA_NAME_LENGTH], LoraPart *part);
/* For each pair of `known` its name with '_' for '.', in diffusers' naming and in that of the original checkpoints. */
typedef struct LoraForms {
    const char *plain, *original; /* original may be NULL */
} LoraForms;
LoraForms *lora_forms(const Adapter *known, Arena *arena);              /* [n_pair]; NULL: out of memory */
int lora_forms_find(const LoraForms *forms, int n, const char *module); /* -1: none */

#endif
