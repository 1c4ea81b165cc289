/* Session: opens models, backends, prompts and the options of an update. See session.h. */
#include "train/session.h"

#include <string.h>

#include "base/cache.h"
#include "base/threads.h"
#include "model/repository.h"
#include "model/text_pass.h"
#include "step/losses.h"

/* Below 8 latents along a side nothing is left beside the overlaps. */
static int choose_tile(Pipeline *p, const Config *c, Error *err) {
    enum { LEAST = 8 };
    int pixels = config_has(c, OPT_VAE_TILE) ? (int)config_int(c, OPT_VAE_TILE) : 0;
    p->vae_tile = pixels / p->factor;
    if (pixels == 0 || (pixels % p->factor == 0 && p->vae_tile >= LEAST)) return 0;
    return fail(err, DRPO_E_USAGE, "--vae-tile %d: must be a multiple of %d, at least %d, for this model", pixels,
                p->factor, LEAST * p->factor);
}

int session_open(Session *s, const Config *c, Error *err) {
    *s = (Session){.arena = arena_new(), .threads = (int)config_int(c, OPT_THREADS)};
    if (!s->arena) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (s->threads == 0) s->threads = threads_default();
    const char *lora = config_has(c, OPT_LORA) ? config_text(c, OPT_LORA) : "";
    ModelChoice model;
    TRY(session_model(c, lora, s->arena, &model, err));
    TRY(pipeline_open_choice(&model, &s->pipeline, err));
    TRY(choose_tile(s->pipeline, c, err));
    CpuOptions cpu = {.threads = s->threads};
    TRY(session_arithmetic(c, backend_cpu_bf16(), &cpu, err));
    s->backend = config_choice(c, OPT_BACKEND) ? backend_ref_new(err) : backend_cpu_open(&cpu, err);
    return s->backend ? 0 : err->code;
}

/* Smaller encoders are read and run faster than a folder is. */
static const size_t text_large = (size_t)64 << 20;

static const char *choose_text_folder(const Session *s, const Config *c) {
    const char *wanted = config_has(c, OPT_TEXT_CACHE) ? config_text(c, OPT_TEXT_CACHE) : "auto";
    if (strcmp(wanted, "off") == 0) return NULL;
    if (strcmp(wanted, "auto") != 0) return wanted;
    const char *cache = text_encoders_bytes(&s->pipeline->text) >= text_large ? cache_folder(s->arena) : NULL;
    return cache ? path_join(s->arena, cache, "text") : NULL;
}

int session_defer(Session *s, const Config *c, Error *err) {
    if (s->backend->defer) s->backend->defer(s->backend);
    s->text_folder = choose_text_folder(s, c);
    return text_pass_new(s->pipeline, s->backend, &s->text, err);
}

void session_close(Session *s) {
    text_pass_free(s->text);
    if (s->backend) backend_free(s->backend);
    if (s->pipeline) pipeline_free(s->pipeline);
    arena_free(s->arena);
    *s = (Session){0};
}

int session_check_prompts(Arena *a, Pipeline *p, const PromptList *prompts, const char *where, const Log *log,
                          Error *err) {
    int length = p->text.tokens;
    int32_t *ids = arena_alloc(a, sizeof *ids * (size_t)(length * p->text.count));
    float *at_end = arena_alloc(a, sizeof *at_end * (size_t)length);
    if (!ids || !at_end) return fail(err, DRPO_E_MEMORY, "out of memory");
    size_t cut = 0;
    for (size_t i = 0; i < prompts->count; i++) {
        bool truncated = false;
        if (text_encoders_tokenize(&p->text, prompts->items[i].text, ids, at_end, &truncated, err) < 0)
            return fail_in(err, "%s: prompt %zu", where, i + 1);
        cut += truncated;
    }
    if (cut)
        log_warn(log, "%s: %zu of %zu prompts are longer than the text encoder's %d tokens; their ends are ignored",
                 where, cut, prompts->count, length);
    return 0;
}

int session_prompts(Arena *a, Pipeline *pipeline, const char *option, const char *name, const Log *log, PromptList *out,
                    const char **path, Error *err) {
    *path = asset_find(name, a);
    if (!file_exists(*path)) return fail(err, DRPO_E_INPUT, "--%s %s: no such file", option, name);
    TRY(prompts_read(*path, a, out, err));
    return pipeline ? session_check_prompts(a, pipeline, out, *path, log, err) : 0;
}

static bool same_tag(const Prompt *x, const Prompt *y) {
    if (!x->tag || !y->tag) return x->tag == y->tag;
    return strcmp(x->tag, y->tag) == 0;
}

int prompts_spread(const PromptList *from, size_t limit, Arena *a, PromptList *out, Error *err) {
    size_t n = from->count;
    if (limit == 0 || limit > n) limit = n;
    Prompt *items = arena_alloc(a, sizeof *items * limit);
    size_t *rank = arena_alloc(a, sizeof *rank * n); /* how many prompts of this tag came before */
    if (!items || !rank) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j-- > 0;)
            if (same_tag(&from->items[i], &from->items[j])) {
                rank[i] = rank[j] + 1;
                break;
            }
    size_t used = 0;
    for (size_t round = 0; used < limit; round++)
        for (size_t i = 0; i < n && used < limit; i++)
            if (rank[i] == round) items[used++] = from->items[i];
    *out = (PromptList){items, used};
    return 0;
}

/* "resnet:NAME?keys=..." with NAME replaced by where it is found: an asset, a path, or a repository's files. */
static const char *find_map(const char *part, Arena *a, Error *err) {
    const size_t head = strcspn(part, ":?");
    if (part[head] != ':') return part;
    const char *from = part + head + 1;
    const size_t n = strcspn(from, "?");
    char *name = arena_printf(a, "%.*s", (int)n, from);
    const char *path = name ? asset_find(name, a) : NULL;
    if (path && !dir_exists(path) && !file_exists(path) && repository_is_id(name) &&
        repository_find(name, "", a, &path, err) < 0)
        return NULL;
    return path ? arena_printf(a, "%.*s:%s%s", (int)head, part, path, from + n) : NULL;
}

static int find_features(const char *spec, Arena *a, const char **out, Error *err) {
    char *copy = arena_strdup(a, spec), *rest = NULL;
    *out = NULL;
    for (char *part = copy ? strtok_r(copy, "+", &rest) : NULL; part; part = strtok_r(NULL, "+", &rest)) {
        const char *found = find_map(part, a, err);
        if (found) *out = *out ? arena_printf(a, "%s+%s", *out, found) : found;
        if (!found || !*out) return err && err->code ? err->code : fail(err, DRPO_E_MEMORY, "out of memory");
    }
    return *out ? 0 : fail(err, DRPO_E_USAGE, "--features '%s': no feature is named", spec);
}

/* config_check has seen that it begins with "taesd:". */
static int find_decoder(const char *spec, Arena *a, const char **out, Error *err) {
    *out = NULL;
    if (spec[0] == 0) return 0;
    const char *found = find_map(spec, a, err);
    if (!found) return err && err->code ? err->code : fail(err, DRPO_E_MEMORY, "out of memory");
    *out = found + strcspn(found, ":") + 1;
    return 0;
}

int session_step_options(const Session *s, const Config *c, StepOptions *out, Error *err) {
    *out = (StepOptions){
        .candidates = (int)config_int(c, OPT_CANDIDATES),
        .positives = (int)config_int(c, OPT_POSITIVES),
        .negatives = (int)config_int(c, OPT_NEGATIVES),
        .min_spread = config_float(c, OPT_MIN_SPREAD),
        .spread_weight = config_bool(c, OPT_SPREAD_WEIGHT),
        .chunk = (int)config_int(c, OPT_CHUNK),
        .memory_budget = config_bytes(c, OPT_MEMORY_BUDGET),
        .resolution = (int)config_int(c, OPT_RESOLUTION),
        .released_x0 = config_choice(c, OPT_X0) == 1,
        .mean_keys = config_choice(c, OPT_FEATURE_SUM) == 1,
        .threads = s->threads,
        .prompts = (int)(config_int(c, OPT_PROMPTS_PER_STEP) * config_int(c, OPT_ACCUMULATE)),
        .at_once = (int)config_int(c, OPT_PROMPTS_AT_ONCE),
        .drift = {.kernel = config_choice(c, OPT_KERNEL),
                  .w_pos = (float)config_float(c, OPT_W_POS),
                  .w_neg = (float)config_float(c, OPT_W_NEG),
                  .w_ref = (float)config_float(c, OPT_W_REF),
                  .w_ref_neg = (float)config_float(c, OPT_W_REF_NEG),
                  .lambda_ref = (float)config_float(c, OPT_LAMBDA_REF),
                  .mask_reference = config_bool(c, OPT_MASK_REFERENCE),
                  .latent_l2 = (float)config_float(c, OPT_LATENT_L2)},
    };
    if (config_bool(c, OPT_POOLS))
        out->pools = (PoolOptions){.rounds = (int)config_int(c, OPT_ROUNDS),
                                   .positives = (int)config_int(c, OPT_POSITIVES_MIN),
                                   .optimize = config_choice(c, OPT_OPTIMIZE),
                                   .seed = (uint64_t)config_int(c, OPT_SEED)};
    if (config_has(c, OPT_EVAL_EVERY)) out->agreement_every = (int)config_int(c, OPT_EVAL_EVERY);
    TRY(find_decoder(config_text(c, OPT_REWARD_DECODER), s->arena, &out->reward_decoder, err));
    session_learn_options(c, &out->learn);
    TRY(session_offline_options(c, s->arena, &out->offline, err));
    if (!losses_rank(&out->learn)) out->positives = out->negatives = 1;
    out->drift.n_radii = config_numbers(c, OPT_RADII, out->drift.radii, MAX_RADII);
    return find_features(config_text(c, OPT_FEATURES), s->arena, &out->features, err);
}

int session_noise(const Config *c, uint64_t seed, size_t per_image, bool training, NoiseSource **out, Error *err) {
    bool has_file = config_has(c, OPT_NOISE) && config_text(c, OPT_NOISE)[0];
    static const NoiseKind kinds[] = {NOISE_PHILOX, NOISE_TORCH, NOISE_TORCH_CUDA}; /* as --rng lists them */
    NoiseKind kind = has_file ? NOISE_FILE : kinds[config_choice(c, OPT_RNG)];
    float neighbour = training ? (float)config_float(c, OPT_NEIGHBOUR_NOISE) : 0;
    TRY(noise_open(kind, has_file ? config_text(c, OPT_NOISE) : NULL, seed, per_image, neighbour, out, err));
    noise_torch(*out, 0, (size_t)config_int(c, OPT_CUDA_BLOCKS));
    return 0;
}

int session_generator(const Config *c, NoiseSource *noise, size_t prompts, size_t per_prompt, Error *err) {
    const Generator generator = (Generator)config_choice(c, OPT_GENERATOR);
    if (generator == GENERATOR_PICTURE) return 0;
    if (config_choice(c, OPT_RNG) == 0)
        return fail(err, DRPO_E_USAGE, "--generator needs --rng torch or torch-cuda: other noise has no generator");
    noise_torch(noise, generator == GENERATOR_RUN ? prompts * per_prompt : per_prompt,
                (size_t)config_int(c, OPT_CUDA_BLOCKS));
    return 0;
}
