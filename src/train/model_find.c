/* Which model: what --model and its companions say, resolved to a folder or file. See session.h. */
#include <string.h>

#include "base/file.h"
#include "model/advice.h"
#include "model/repository.h"
#include "train/session.h"

int model_find(const char *name, const char *revision, Arena *a, ModelChoice *out, Error *err) {
    const char *path = asset_find(name, a);
    bool here = path && (dir_exists(path) || file_exists(path));
    *out = (ModelChoice){.path = path};
    if (!path) return fail(err, DRPO_E_MEMORY, "--model %s: out of memory", name);
    if (here && revision[0])
        return fail(err, DRPO_E_USAGE, "--revision %s: belongs to a repository id, but --model %s is on this disk",
                    revision, name);
    if (here) return 0;
    out->name = name;
    if (repository_is_id(name)) return repository_find(name, revision, a, &out->path, err);
    char get[ADVICE_LENGTH];
    return fail(err, DRPO_E_INPUT,
                "--model %s: no such folder; give tiny-turbo (embedded), a diffusers folder, or a repository id after: "
                "%s",
                name, model_advice(name, get));
}

int session_model(const Config *c, const char *lora, Arena *a, ModelChoice *out, Error *err) {
    const char *revision = config_text(c, OPT_REVISION);
    const char *base = lora[0] && config_source(c, OPT_MODEL) == SOURCE_DEFAULT ? adapter_base(lora, a) : NULL;
    bool found = base && model_find(base, revision, a, out, NULL) == 0;
    if (!found) TRY(model_find(config_text(c, OPT_MODEL), revision, a, out, err));
    out->variant = config_text(c, OPT_VARIANT);
    out->tokenizer = config_text(c, OPT_TOKENIZER);
    return 0;
}
