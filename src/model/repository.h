/* Repository: a model of the Hugging Face hub by its id, found in the cache that `hf download` and diffusers fill.
 * Nothing is ever fetched.
 *
 *     CACHE/models--ORG--NAME/refs/main        holds a commit
 *     CACHE/models--ORG--NAME/snapshots/COMMIT the files, as links
 *
 * CACHE is $HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or
 * ~/.cache/huggingface/hub. */
#ifndef DRPO_MODEL_REPOSITORY_H
#define DRPO_MODEL_REPOSITORY_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"

/* Has the form of an id: "ORG/NAME". */
bool repository_is_id(const char *name);
/* Folder of the snapshot. `revision`: branch, tag or commit; "" or NULL: main. */
int repository_find(const char *id, const char *revision, Arena *a, const char **folder, Error *err);
const char *repository_cache(Arena *a); /* NULL: out of memory */

#endif
