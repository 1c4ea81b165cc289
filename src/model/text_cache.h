/* Text cache: a folder of encoded prompts, so that text encoders need not be in memory, or even run, twice.
 *
 * One file per prompt, named by the SHA-256 of everything that decides its values: the encoders' weights and
 * configurations, the prompt's token ids, the program's version. A file that is cut or changed is noticed and made
 * again; a new one appears whole or not at all, so any number of programs may share the folder. */
#ifndef DRPO_MODEL_TEXT_CACHE_H
#define DRPO_MODEL_TEXT_CACHE_H

#include "model/text_encoders.h"

typedef struct TextCache TextCache;

/* `backend`: by its name, since another one rounds differently. Reads the encoders' fingerprints. */
int text_cache_open(const char *folder, const TextEncoders *e, const char *backend, TextCache **out, Error *err);
void text_cache_close(TextCache *c); /* NULL is fine */
/* ids [encoders,T]; text: text_encoders_floats numbers. False: not there, or not sound. */
bool text_cache_get(const TextCache *c, const int32_t *ids, float *text);
int text_cache_put(const TextCache *c, const int32_t *ids, const float *text, Error *err);

#endif
