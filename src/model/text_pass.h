/* Text pass: a prompt -> its text: states [T,D], then in SDXL pooled [P]; tokenised, encoded by the planned text
 * encoders and remembered.
 *
 * Prompts repeat during training, so the states of the last ones used are kept up to a byte limit. With a folder for
 * encoded prompts (text_cache.h), all prompts of a run are encoded before it begins and the encoders leave memory,
 * which in the published models hold as much as a third of the generator. A prompt that is then neither in memory nor
 * sound in the folder is encoded again; the encoders come back for it and go. */
#ifndef DRPO_MODEL_TEXT_PASS_H
#define DRPO_MODEL_TEXT_PASS_H

#include "engine/backend.h"
#include "model/pipeline.h"

typedef struct TextPass TextPass;

/* One for a pipeline and a backend: the next call for the same two shares it. It computes on a backend of its own, made
 * like `b`, so that its weights can go without the others. */
int text_pass_new(Pipeline *p, Backend *b, TextPass **out, Error *err);
void text_pass_free(TextPass *t);
/* Encoded prompts are kept in `folder` from now on. `must`: one that cannot be written there is an error; else it is
 * remembered, and prompts are encoded as they come. */
int text_pass_keep(TextPass *t, const char *folder, bool must, Error *err);
const char *text_pass_complaint(const TextPass *t); /* why a prompt could not be kept; NULL: none was refused */
bool text_pass_keeps(const TextPass *t);
/* Encodes what the folder lacks, then releases the encoders. Without a folder it does nothing. `each` (may be NULL) is
 * called before prompt `done` of `all` that have to be encoded; a result below 0 stops. */
typedef int TextProgress(void *user, size_t done, size_t all, Error *err);
int text_pass_prepare(TextPass *t, const char *const *prompts, size_t n, TextProgress *each, void *user, Error *err);
/* Memory that the first prompt will take beyond what the process has now. */
size_t text_pass_pending(const TextPass *t);
size_t text_pass_bytes(const TextPass *t); /* activations and cache */
size_t text_pass_remembered(const TextPass *t,
                            size_t prompts); /* bytes of so many in memory, as far as there is room */
/* *text (text_encoders_floats numbers) stays valid until the next call. *truncated (may be NULL): the prompt is longer
 * than the model reads. */
int text_pass_encode(TextPass *t, const char *prompt, const float **text, bool *truncated, Error *err);

#endif
