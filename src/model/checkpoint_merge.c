/* Checkpoint merge: finds the UNet's layers among a checkpoint's tensors and hands all to lora_merge.c. See
 * checkpoint_merge.h. */
#include "model/checkpoint_merge.h"

#include <string.h>

#include "base/arena.h"
#include "model/checkpoint_names.h"
#include "model/lora_merge.h"
#include "model/weights.h"

/* Levels of the VAE and layers of text encoders change the names of their own tensors only. */
static const CheckpointShape ANY = {.vae_levels = 1 << 14};

typedef struct Lists {
    SafeTensor *tensor;
    const char **name;
    TextPair *metadata;
} Lists;

static int out_of_memory(const char *path, Error *err) { return fail(err, DRPO_E_MEMORY, "%s: out of memory", path); }

static bool is_average(const char *name) { return strncmp(name, "model_ema.", strlen("model_ema.")) == 0; }

static int list_tensors(const SafeFile *f, Lists *to, Arena *arena, MergeList *l, Error *err) {
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        CheckpointName known;
        if (is_average(t->name)) continue;
        to->tensor[l->n] = *t;
        to->name[l->n] = NULL;
        if (checkpoint_name(t->name, &ANY, &known) && known.component && strcmp(known.component, "unet") == 0)
            if (!(to->name[l->n] = arena_strdup(arena, known.name[0]))) return out_of_memory(l->from, err);
        l->n++;
    }
    return 0;
}

static void list_metadata(const SafeFile *f, Lists *to, MergeList *l) {
    for (size_t i = 0; i < safetensors_metadata_count(f); i++) {
        TextPair pair = safetensors_metadata_at(f, i);
        if (!strstr(pair.key, "hash")) to->metadata[l->pairs++] = pair;
    }
}

static int merge(const SafeFile *f, const Adapter *a, const char *to, Arena *arena, Error *err) {
    size_t n = safetensors_count(f) + 1;
    Lists lists = {.tensor = arena_alloc(arena, n * sizeof *lists.tensor),
                   .name = arena_alloc(arena, n * sizeof *lists.name),
                   .metadata = arena_alloc(arena, (safetensors_metadata_count(f) + 1) * sizeof *lists.metadata)};
    MergeList l = {.tensor = lists.tensor, .name = lists.name, .metadata = lists.metadata, .from = safetensors_path(f)};
    if (!lists.tensor || !lists.name || !lists.metadata) return out_of_memory(l.from, err);
    TRY(list_tensors(f, &lists, arena, &l, err));
    list_metadata(f, &lists, &l);
    return lora_merge_list(&l, a, to, err);
}

int checkpoint_merge(const char *from, const Adapter *a, const char *to, Error *err) {
    SafeFile *f;
    TRY(weights_map(from, &f, err));
    Arena *arena = arena_new();
    int code = arena ? merge(f, a, to, arena, err) : out_of_memory(from, err);
    arena_free(arena);
    safetensors_close(f);
    return code;
}
