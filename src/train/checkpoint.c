/* Checkpoint: written whole or not at all, read back exactly. See checkpoint.h. */
#include "train/checkpoint.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/full_weights.h"
#include "train/session.h"

enum { CHECKPOINT_FORMAT = 1 };

static int join(char out[PATH_MAX], const char *folder, const char *name, Error *err) {
    if (snprintf(out, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX)
        return fail(err, DRPO_E_INPUT, "%s: the path is too long", folder);
    return 0;
}

static int write_moments(const char *folder, const Optimizer *o, Error *err) {
    char path[PATH_MAX];
    TRY(join(path, folder, "optimizer.safetensors", err));
    SafeTensor t[2] = {{.name = "m",
                        .dtype = DT_F32,
                        .rank = 1,
                        .dim = {(int64_t)o->count},
                        .data = o->m,
                        .bytes = o->count * sizeof(float)},
                       {.name = "v",
                        .dtype = DT_F32,
                        .rank = 1,
                        .dim = {(int64_t)o->count},
                        .data = o->v,
                        .bytes = o->count * sizeof(float)}};
    return safetensors_write(path, t, 2, NULL, 0, err);
}

static int write_state(const char *folder, const Checkpoint *c, Error *err) {
    char path[PATH_MAX];
    TRY(join(path, folder, "state.json", err));
    json_t *state =
        json_pack("{s:i, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:f}", "format", CHECKPOINT_FORMAT, "step",
                  (json_int_t)c->step, "config_sha256", c->identity.config, "model_sha256", c->identity.model,
                  "prompts_sha256", c->identity.prompts, "metrics_bytes", (json_int_t)c->metrics_bytes, "eval_bytes",
                  (json_int_t)c->eval_bytes, "candidates_bytes", (json_int_t)c->candidates_bytes, "method", c->method);
    if (!state || (c->kept >= 0 && json_object_set_new(state, "kept", json_integer((json_int_t)c->kept)) < 0)) {
        json_decref(state);
        return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    }
    int code = json_save_path(path, state, err);
    json_decref(state);
    return code;
}

int adapter_save(const Adapter *a, const Pipeline *p, const char *folder, const LoraMeta *meta, Error *err) {
    return a->full ? full_write(a, p, folder, err) : lora_write(a, LORA_PEFT, folder, meta, err);
}

/* In a folder of the checkpoint. */
static int write_beside(const char *tmp, const char *name, const Pipeline *p, const Adapter *a, const LoraMeta *meta,
                        Error *err) {
    char path[PATH_MAX];
    TRY(join(path, tmp, name, err));
    if (a->full) TRY(dir_make(path, err));
    return adapter_save(a, p, path, meta, err);
}

static int write_adapters(const char *tmp, const Checkpoint *c, const Pipeline *p, const RunAdapters *a,
                          const LoraMeta *meta, Error *err) {
    TRY(adapter_save(a->last, p, tmp, meta, err));
    if (a->average) TRY(write_beside(tmp, "ema", p, a->average, meta, err));
    if (!a->kept || c->kept < 0) return 0;
    LoraMeta kept = *meta;
    kept.steps = c->kept;
    return write_beside(tmp, "kept", p, a->kept, &kept, err);
}

static int write_all(const char *tmp, const char *path, const Checkpoint *c, const Pipeline *p, const RunAdapters *a,
                     const LoraMeta *meta, const Optimizer *o, Error *err) {
    if (dir_exists(tmp)) TRY(dir_remove(tmp, err));
    TRY(dir_make(tmp, err));
    TRY(write_adapters(tmp, c, p, a, meta, err));
    TRY(write_moments(tmp, o, err));
    TRY(write_state(tmp, c, err));
    if (dir_exists(path)) TRY(dir_remove(path, err)); /* the same step, reached again */
    return dir_commit(tmp, path, err);
}

int checkpoint_write(const char *run, const Checkpoint *c, const Pipeline *p, const RunAdapters *a,
                     const LoraMeta *meta, const Optimizer *o, Error *err) {
    char path[PATH_MAX], tmp[PATH_MAX], name[64];
    snprintf(name, sizeof name, "checkpoint-%ld", c->step);
    TRY(join(path, run, name, err));
    snprintf(name, sizeof name, ".tmp-checkpoint-%ld", c->step);
    TRY(join(tmp, run, name, err));
    int code = write_all(tmp, path, c, p, a, meta, o, err);
    if (code < 0 && dir_exists(tmp)) dir_remove(tmp, NULL);
    return code;
}

static int copy_moment(const SafeFile *f, const char *name, float *to, size_t count, Error *err) {
    const SafeTensor *t = safetensors_find(f, name);
    if (!t || t->dtype != DT_F32 || t->bytes != count * sizeof(float))
        return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is missing or does not fit this adapter", safetensors_path(f),
                    name);
    memcpy(to, t->data, t->bytes);
    return 0;
}

static int read_moments(const char *folder, Optimizer *o, Error *err) {
    char path[PATH_MAX];
    SafeFile *f = NULL;
    TRY(join(path, folder, "optimizer.safetensors", err));
    TRY(safetensors_open(path, &f, err));
    int code = copy_moment(f, "m", o->m, o->count, err);
    if (code == 0) code = copy_moment(f, "v", o->v, o->count, err);
    safetensors_close(f);
    return code;
}

static int check_identity(const char *path, const char *what, const char *found, const char *expected, Error *err) {
    if (strcmp(found, expected) == 0) return 0;
    return fail(
        err, DRPO_E_INPUT,
        "%s: the %s changed since this checkpoint was written, so the run cannot go on as it was; restore it, or "
        "start a new run with --lora-init CHECKPOINT",
        path, what);
}

static int read_state(const char *folder, const RunIdentity *expected, Checkpoint *out, Error *err) {
    char path[PATH_MAX];
    json_t *root = NULL;
    TRY(join(path, folder, "state.json", err));
    TRY(json_load_path(path, &root, err));
    JsonReader r = {root, path, err};
    static const char *const keys[] = {"format", "step", "metrics_bytes", "eval_bytes", "config_sha256"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) json_require(&r, keys[i]);
    *out = (Checkpoint){.step = (long)json_get_int(&r, "step", 0),
                        .method = json_get_number(&r, "method", 1),
                        .metrics_bytes = json_get_int(&r, "metrics_bytes", 0),
                        .eval_bytes = json_get_int(&r, "eval_bytes", 0),
                        .candidates_bytes = json_get_int(&r, "candidates_bytes", -1),
                        .kept = (long)json_get_int(&r, "kept", -1)};
    int64_t format = json_get_int(&r, "format", 0);
    const char *config = json_get_string(&r, "config_sha256", ""), *model = json_get_string(&r, "model_sha256", "");
    const char *prompts = json_get_string(&r, "prompts_sha256", "");
    int code = json_finish(&r);
    if (code == 0 && format != CHECKPOINT_FORMAT)
        code = fail(err, DRPO_E_INPUT, "%s: format %lld is not known to this version", path, (long long)format);
    if (code == 0 && (out->step < 1 || out->metrics_bytes < 0 || out->eval_bytes < 0))
        code = fail(err, DRPO_E_INPUT, "%s: is damaged, its counters are out of range", path);
    if (code == 0) code = check_identity(path, "run's config.yaml", config, expected->config, err);
    if (code == 0) code = check_identity(path, "model", model, expected->model, err);
    if (code == 0) code = check_identity(path, "prompt file", prompts, expected->prompts, err);
    out->identity = *expected;
    json_decref(root);
    return code;
}

static int read_adapter(const char *path, Pipeline *p, Adapter *a, Error *err) {
    Adapter *read = NULL;
    TRY(adapter_open(p, path, &read, err));
    int code = lora_copy(a, read, err);
    lora_free(read);
    return code < 0 ? fail_in(err, "%s", path) : 0;
}

int checkpoint_read(const char *path, Pipeline *p, const RunIdentity *expected, const RunAdapters *a, Optimizer *o,
                    Checkpoint *out, Error *err) {
    char ema[PATH_MAX], kept[PATH_MAX];
    TRY(read_state(path, expected, out, err));
    TRY(read_adapter(path, p, a->last, err));
    TRY(join(ema, path, "ema", err));
    if (a->average) TRY(read_adapter(ema, p, a->average, err));
    TRY(join(kept, path, "kept", err));
    if (a->kept && out->kept >= 0) TRY(read_adapter(kept, p, a->kept, err));
    TRY(read_moments(path, o, err));
    o->step = out->step;
    return 0;
}
