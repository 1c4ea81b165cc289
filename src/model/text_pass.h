/* Text pass: a prompt -> its text: states [T,D], then in SDXL pooled [P]; tokenised, encoded by the planned text
 * encoders and remembered.
 *
 * Prompts repeat during training, so the states of the last ones used are kept up to a byte limit. */
#ifndef DRPO_MODEL_TEXT_PASS_H
#define DRPO_MODEL_TEXT_PASS_H

#include "engine/backend.h"
#include "model/pipeline.h"

typedef struct TextPass TextPass;

int text_pass_new(Pipeline *p, Backend *b, size_t cache_bytes, TextPass **out, Error *err);
void text_pass_free(TextPass *t);
size_t text_pass_bytes(const TextPass *t); /* activations and cache */
/* *text (text_encoders_floats numbers) stays valid until the next call. *truncated (may be NULL): the prompt is longer
 * than the model reads. */
int text_pass_encode(TextPass *t, const char *prompt, const float **text, bool *truncated, Error *err);

#endif
