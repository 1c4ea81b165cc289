/* Picture text: see picture_text.h. */
#include "train/picture_text.h"

#include <string.h>

#include "base/file.h"
#include "model/full_weights.h"

enum { SHORT_HASH = 10, LORA_HASH = 12 };

/* Last part of a path. */
static const char *base_name(const char *path, Arena *a) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/') start--;
    return arena_printf(a, "%.*s", (int)(n - start), path + start);
}

/* The last one's name and hash stand apart; those before it are "NAME: HASH, " in front of its name. */
static int hash_adapter(PictureText *t, const char *lora, Arena *a, Error *err) {
    float scale;
    const char *path = adapter_split(lora, &scale, a), *found = path ? adapter_locate(path, a, err) : NULL;
    if (!found) return err->code ? err->code : fail(err, DRPO_E_MEMORY, "out of memory");
    const char *file =
        file_exists(found) ? found : path_join(a, found, full_is_in(found) ? full_file : "adapter_model.safetensors");
    char hex[65];
    if (!file) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(sha256_file(file, hex, err));
    const char *before = t->lora ? arena_printf(a, "%s: %s, ", t->lora, t->lora_hash) : "", *name = base_name(path, a);
    if (!before || !name) return fail(err, DRPO_E_MEMORY, "out of memory");
    t->lora = arena_printf(a, "%s%s", before, name);
    t->lora_hash = arena_printf(a, "%.*s", LORA_HASH, hex);
    return t->lora && t->lora_hash ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

int picture_text_open(PictureText *t, Pipeline *p, const char *lora, Arena *a, Error *err) {
    *t = (PictureText){.model = base_name(p->name, a),
                       .model_hash = arena_printf(a, "%.*s", SHORT_HASH, pipeline_sha256(p)),
                       .sampler = p->stock.ancestral ? "Euler a" : "Euler"};
    for (const char *rest = lora[0] ? lora : NULL; rest; rest = adapter_rest(rest)) TRY(hash_adapter(t, rest, a, err));
    return 0;
}

char *picture_text(const PictureText *t, Arena *a, const char *prompt, long long seed, int width, int height) {
    const char *lora = t->lora ? arena_printf(a, ", Lora hashes: \"%s: %s\"", t->lora, t->lora_hash) : "";
    const char *seeded = seed >= 0 ? arena_printf(a, "Seed: %lld, ", seed) : "";
    if (!lora || !seeded) return NULL;
    return arena_printf(
        a, "%s\nSteps: 1, Sampler: %s, CFG scale: 1, %sSize: %dx%d, Model hash: %s, Model: %s%s, Version: drpo %s",
        prompt, t->sampler, seeded, width, height, t->model_hash, t->model, lora, DRPO_VERSION);
}
