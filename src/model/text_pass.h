/* Text pass: a prompt -> text states [T,D], tokenised, encoded by the planned text encoder and remembered.
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
int text_pass_tokens(const TextPass *t);
int text_pass_width(const TextPass *t);
/* *states [T,D] stays valid until the next call. *truncated (may be NULL): the prompt is longer than the model reads.
 */
int text_pass_encode(TextPass *t, const char *prompt, const float **states, bool *truncated, Error *err);

#endif
