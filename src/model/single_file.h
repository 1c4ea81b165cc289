/* Single file: a checkpoint such as sd_turbo.safetensors or sd_xl_turbo_1.0.safetensors, read as if it were a diffusers
 * folder. It holds the weights alone: configurations are built in for the two families, a tokenizer comes from
 * elsewhere (model_files.h). */
#ifndef DRPO_MODEL_SINGLE_FILE_H
#define DRPO_MODEL_SINGLE_FILE_H

#include "model/weights.h"

typedef enum Family { FAMILY_SD_TURBO, FAMILY_SDXL_TURBO, FAMILIES } Family;

/* Which family the file's tensors belong to; an error says what the file is instead. */
int single_file_family(const char *path, Family *out, Error *err);
const char *family_repository(Family f);                 /* "stabilityai/sd-turbo" */
const char *family_document(Family f, const char *name); /* JSON text of "unet/config.json"; NULL: there is none */
const char *family_document_name(Family f, int i);       /* of the i-th; NULL: there are fewer */
/* One component's tensors under diffusers' names. text_layers: of text_encoder, as its config.json says. */
int single_file_weights(const char *path, Family f, const char *component, int text_layers, Weights **out, Error *err);

#endif
