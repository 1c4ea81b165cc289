/* The verb `doctor`: is this machine and this model fit for work? One line for each check: ok, WARN or FAIL. It goes on
 * after a failure, so that one look shows everything. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "base/threads.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "model/repository.h"
#include "model/text_pass.h"
#include "train/machine.h"
#include "train/memory.h"
#include "train/session.h"

static const char PROMPT[] = "a photo of a red star";
static const double GIB = 1073741824.0;

typedef struct Doctor {
    const Job *job;
    Arena *arena;
    Machine machine;
    int failures;
} Doctor;

static void line(Doctor *d, const char *verdict, const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void line(Doctor *d, const char *verdict, const char *subject, const char *format, ...) {
    char text[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->failures += strcmp(verdict, "FAIL") == 0;
    job_result(d->job, "%-4s  %-16s  %s", verdict, subject, text);
}

/* ---- machine ---- */

static void check_machine(Doctor *d) {
    const Machine *m = &d->machine;
    const char *kernels = m->avx512 ? "AVX-512" : m->avx2 ? "AVX2" : "generic";
    line(d, m->avx2 ? "ok" : "WARN", "processor", "%s: %s kernels%s%s", m->cpu[0] ? m->cpu : "unknown", kernels,
         m->amx || m->bf16 ? ", bfloat16 in hardware" : "", m->avx2 ? "" : " (slow: no AVX2)");
    line(d, "ok", "threads", "%d", threads_default());
    if (m->available)
        line(d, "ok", "memory", "%.1f GiB, %.1f GiB of them free", (double)m->memory / GIB, (double)m->available / GIB);
    else
        line(d, "WARN", "memory", "the system does not say how much there is");
    line(d, "ok", "GPU", "not used: this build computes on the processor");
    const char *cache = repository_cache(d->arena);
    if (cache) line(d, "ok", "cache", "%s%s", cache, dir_exists(cache) ? "" : " (not there)");
}

static void check_bf16(Doctor *d) {
    static const char *const units[] = {
        [BF16_NONE] = "not without AVX-512: --dtype bf16 is refused",
        [BF16_EMULATED] = "by way of float32, several times slower than --dtype f32, which auto takes",
        [BF16_VECTORS] = "in vectors, slower than --dtype f32, which auto takes",
        [BF16_TILES] = "in AMX tiles: --dtype auto takes it",
    };
    line(d, "ok", "bfloat16", "%s", units[backend_cpu_bf16()]);
}

/* ---- tokenizer ---- */

/* The text of ids, by looking them up in vocab.json; NULL: an id has no token. */
static const char *decode(const json_t *vocab, const int32_t *ids, int n, Arena *a) {
    const char *text = "";
    for (int i = 0; i < n && text; i++) {
        const char *token, *found = NULL;
        json_t *id;
        json_object_foreach((json_t *)vocab, token, id) if (json_integer_value(id) == ids[i]) found = token;
        if (!found) return NULL;
        size_t length = strlen(found);
        bool last = length > 4 && ends_with(found, "</w>"); /* of a word */
        text =
            arena_printf(a, "%s%.*s%s", text, (int)(last ? length - 4 : length), found, last && i + 1 < n ? " " : "");
    }
    return text;
}

/* Encodes PROMPT; the ids between start and end spell it again. */
static int round_trip(Doctor *d, const char *folder, const Tokenizer *t, const char *component, Error *err) {
    int length = tokenizer_length(t), n = 0;
    json_t *root;
    int32_t *ids = arena_alloc(d->arena, sizeof *ids * (size_t)length);
    const char *path = path_join(d->arena, folder, "vocab.json"), *all = path_join(d->arena, folder, "tokenizer.json");
    if (!ids || !path || !all) return fail(err, DRPO_E_MEMORY, "out of memory");
    TRY(tokenizer_encode(t, PROMPT, ids, NULL, err));
    bool one_file = !file_exists(path);
    TRY(json_load_path(one_file ? all : path, &root, err));
    const json_t *vocab = one_file ? json_object_get(json_object_get(root, "model"), "vocab") : root;
    const json_t *end = json_object_get(vocab, "<|endoftext|>");
    while (1 + n < length && ids[1 + n] != (int32_t)json_integer_value(end)) n++;
    const char *text = decode(vocab, ids + 1, n, d->arena);
    json_decref(root);
    if (!text || strcmp(text, PROMPT) != 0)
        return fail(err, DRPO_E_INPUT, "%s: '%s' comes back as '%s'; do its files belong together?", folder, PROMPT,
                    text ? text : "?");
    line(d, "ok", component, "'%s' is %d tokens and comes back; at most %d", PROMPT, n, length);
    return 0;
}

static void check_tokenizer(Doctor *d, const ModelFiles *f, const char *component) {
    Error err = {0};
    Tokenizer *t = NULL;
    const char *folder;
    int code = model_tokenizer_folder(f, component, &folder, &err);
    if (code == 0) code = model_tokenizer(f, component, &t, &err);
    if (code == 0) code = round_trip(d, folder, t, component, &err);
    if (code < 0) line(d, "FAIL", component, "%s", err.text);
    tokenizer_free(t);
}

/* ---- weights ---- */

static void check_weights(Doctor *d, const ModelFiles *f, const char *component, const char *stem) {
    Error err = {0};
    Weights *w;
    if (model_weights(f, component, stem, &w, &err) < 0) {
        line(d, "FAIL", component, "%s", err.text);
        return;
    }
    const char *bad = weights_not_finite(w);
    const char *type = weights_count(w) ? dtype_name(weights_at(w, 0)->dtype) : "";
    if (bad)
        line(d, "FAIL", component, "%s: tensor '%s' is not finite; fetch the file again", weights_path(w), bad);
    else
        line(d, "ok", component, "%zu tensors, %s, %.1f MiB, all finite", weights_count(w), type,
             (double)weights_bytes(w) / 1048576);
    weights_free(w);
}

static bool has_document(const ModelFiles *f, const char *name) {
    const char *document;
    return model_document(f, name, &document, NULL) == 0;
}

static void check_parts(Doctor *d, const ModelFiles *f) {
    bool second = has_document(f, "text_encoder_2/config.json");
    check_tokenizer(d, f, "tokenizer");
    if (second) check_tokenizer(d, f, "tokenizer_2");
    check_weights(d, f, "text_encoder", "model");
    if (second) check_weights(d, f, "text_encoder_2", "model");
    check_weights(d, f, "unet", "diffusion_pytorch_model");
    check_weights(d, f, "vae", "diffusion_pytorch_model");
}

/* ---- the whole model ---- */

/* What drawing one picture takes, by the estimate that `drpo sample` goes by; nothing is computed. */
static int check_room(Doctor *d, Pipeline *p, Error *err) {
    Session s = {.arena = d->arena, .pipeline = p, .threads = threads_default()};
    Sampler *sampler = NULL;
    MemoryPlan plan = {0};
    s.backend = backend_cpu_new(s.threads, err);
    int code = s.backend ? session_defer(&s, d->job->config, err) : err->code;
    if (code == 0) code = sampler_new(p, s.backend, NULL, 1, 0, false, &sampler, err);
    if (code == 0) memory_plan(&s, d->job->config, sampler_records(sampler), 0, 1, NULL, &plan);
    if (sampler) sampler_free(sampler);
    text_pass_free(s.text);
    if (s.backend) backend_free(s.backend);
    TRY(code);
    bool fits = plan.limit == 0 || plan.peak <= plan.limit;
    line(d, fits ? "ok" : "WARN", "room", "drawing one picture takes %.2f GiB, %.2f GiB are there; training: drpo plan",
         (double)plan.peak / GIB, (double)plan.limit / GIB);
    return 0;
}

/* Configurations are supported, and every tensor has the name and shape that they ask for. */
static void check_networks(Doctor *d, const ModelChoice *choice) {
    Error err = {0};
    Pipeline *p = NULL;
    if (pipeline_open_choice(choice, &p, &err) < 0) {
        line(d, "FAIL", "networks", "%s", err.text);
        return;
    }
    int side = p->latent_size * p->factor;
    line(d, "ok", "networks", "one-step generator of %d x %d pixels; configurations and tensors agree", side, side);
    if (check_room(d, p, &err) < 0) line(d, "FAIL", "room", "%s", err.text);
    pipeline_free(p);
}

static void check_model(Doctor *d, const char *name) {
    const Config *c = d->job->config;
    Error err = {0};
    ModelChoice choice;
    ModelFiles *f = NULL;
    int code = model_find(name, config_text(c, OPT_REVISION), d->arena, &choice, &err);
    if (code == 0) {
        choice.variant = config_text(c, OPT_VARIANT);
        choice.tokenizer = config_text(c, OPT_TOKENIZER);
        code = model_files_open(&choice, &f, &err);
    }
    if (code < 0) {
        line(d, "FAIL", "model", "%s", err.text);
        return;
    }
    line(d, "ok", "model", "%s: %s%s", name, model_is_folder(f) ? "folder " : "checkpoint file ", choice.path);
    check_networks(d, &choice);
    check_parts(d, f);
    model_files_close(f);
}

int verb_doctor(const Job *job, Error *err) {
    const Config *c = job->config;
    int n = config_count(c, OPT_CHECKED);
    if (n > 1) return fail(err, DRPO_E_USAGE, "'drpo doctor' takes one MODEL, not %d", n);
    Doctor d = {.job = job, .arena = arena_new()};
    if (!d.arena) return fail(err, DRPO_E_MEMORY, "out of memory");
    machine_read(&d.machine);
    check_machine(&d);
    check_bf16(&d);
    check_model(&d, n ? config_item(c, OPT_CHECKED, 0) : "tiny-turbo");
    arena_free(d.arena);
    if (d.failures == 0) return 0;
    return fail(err, DRPO_E_INPUT, "%d check%s failed", d.failures, d.failures > 1 ? "s" : "");
}
