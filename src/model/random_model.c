/* Random model: see random_model.h.
 *
 * A tensor's values are drawn with repetition from a table of 4096 normal numbers of its own: mean 1 for the weights of
 * norms, else 0; deviation 1/sqrt(fan in) for products, less where a layer ends a residual branch, so that depth does
 * not add up. */
#include "model/random_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "base/text.h"
#include "format/safetensors.h"
#include "format/store.h"
#include "model/latent_resnet.h"
#include "model/pipeline.h"

enum { TABLE = 4096, WORD_VALUES = 2, BLOCK_BYTES = 4 * WORD_VALUES * 2 };

/* ---- values ---- */
typedef struct Writing {
    RandomWatch watch;
    size_t done, all;
    uint32_t part;            /* keeps the parts' numbers apart */
    const SafeTensor *tensor; /* that the table is for */
    uint16_t table[TABLE];    /* float16 */
    uint32_t words[SAFE_PIECE / (2 * WORD_VALUES)];
} Writing;

/* Its output is added to what went in. */
static bool ends_branch(const char *name) {
    static const char *const ends[] = {"conv2.weight",    "to_out.0.weight", "ff.net.2.weight",
                                       "proj_out.weight", "out_proj.weight", "fc2.weight"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

static void spread(const SafeTensor *t, float *mean, float *deviation) {
    const float small = 0.05f, branch = 0.3f;
    const bool table = strstr(t->name, "embeddings.") != NULL; /* rows are looked up */
    double fan = 1;
    for (int i = 1; i < t->rank; i++) fan *= (double)t->dim[i];
    *mean = t->rank == 1 && ends_with(t->name, "weight") ? 1 : 0;
    *deviation = t->rank < 2 || table ? small : (ends_branch(t->name) ? branch : 1) / (float)sqrt(fan);
}

static void make_table(Writing *w, const SafeTensor *t) {
    float values[TABLE], mean, deviation;
    spread(t, &mean, &deviation);
    rng_normal((RngKey){.stream = RNG_WEIGHTS, .prompt = w->part, .candidate = (uint32_t)(w->done >> 1)}, values,
               TABLE);
    for (size_t i = 0; i < TABLE; i++) w->table[i] = f16_from_f32(mean + deviation * values[i]);
    w->tensor = t;
}

/* A SafeMaker. */
static int make_values(void *user, const SafeTensor *t, size_t first, size_t n, void *out, Error *err) {
    Writing *w = user;
    uint16_t *values = out;
    if (w->watch.each) TRY(w->watch.each(w->watch.user, w->done, w->all, err));
    if (t != w->tensor) make_table(w, t);
    const size_t count = n / sizeof *values, words = (count + WORD_VALUES - 1) / WORD_VALUES;
    const RngKey key = {.stream = RNG_WEIGHTS, .step = 1, .prompt = w->part, .candidate = (uint32_t)w->done};
    rng_words(key, first / BLOCK_BYTES, w->words, words);
    for (size_t i = 0; i < count; i++) values[i] = w->table[w->words[i / 2] >> (i % 2 * 16) & (TABLE - 1)];
    w->done += n;
    return 0;
}

/* ---- parts ---- */
typedef struct Part {
    const char *folder, *stem;
    const Weights *weights;
} Part;

enum { MOST_PARTS = MAX_ENCODERS + 3 };

typedef struct Parts {
    Part part[MOST_PARTS];
    int count;
    size_t bytes;
} Parts;

static void add_part(Parts *p, const char *folder, const char *stem, const Weights *w) {
    p->part[p->count++] = (Part){folder, stem, w};
    p->bytes += weights_bytes(w);
}

static int write_part(const Part *p, const char *folder, Arena *a, Writing *w, Error *err) {
    const char *path = arena_printf(a, "%s/%s/%s.safetensors", folder, p->folder, p->stem);
    if (!path) return fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    w->part++;
    return safetensors_write_made(path, weights_at(p->weights, 0), weights_count(p->weights), make_values, w, err);
}

static int write_parts(const Parts *p, const char *folder, RandomWatch watch, Error *err) {
    TRY(disk_room(folder, p->bytes, err));
    Arena *a = arena_new();
    Writing *w = calloc(1, sizeof *w);
    int code = a && w ? 0 : fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    if (w) *w = (Writing){.watch = watch, .all = p->bytes};
    for (int i = 0; i < p->count && code == 0; i++) code = write_part(&p->part[i], folder, a, w, err);
    free(w);
    arena_free(a);
    return code;
}

/* The latent feature network in FOLDER/features, on blank weights. */
static int build_features(const char *folder, const char *config, Weights **out, Error *err) {
    LatentResnetConfig c;
    char key[32];
    TRY(latent_resnet_config_read(config, &c, err));
    TRY(weights_blank(folder, out, err));
    Arena *a = arena_new();
    Graph *g = a ? graph_new(a) : NULL;
    if (!g) {
        arena_free(a);
        return fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    }
    snprintf(key, sizeof key, "layer%d", c.stages);
    const char *keys[] = {key};
    Value feature, latents = input(g, "latents", DT_F32, shape4(1, c.in_channels, 64, 64));
    int code = latent_resnet_features(&(Build){.g = g, .weights = *out}, &c, latents, keys, 1, &feature, err);
    if (code >= 0) code = graph_check(g, err);
    arena_free(a);
    return code;
}

static int fill(const char *folder, const char *features, Pipeline **p, Weights **network, RandomWatch watch,
                Error *err) {
    static const char *const text[MAX_ENCODERS] = {"text_encoder", "text_encoder_2"};
    static const char unet[] = "diffusion_pytorch_model";
    Parts parts = {0};
    TRY(pipeline_open_choice(&(ModelChoice){.path = folder, .blank = true}, p, err));
    for (int i = 0; i < (*p)->text.count; i++) add_part(&parts, text[i], "model", (*p)->text.encoder[i].weights);
    add_part(&parts, "unet", unet, (*p)->unet_weights);
    add_part(&parts, "vae", unet, (*p)->vae_weights);
    if (file_exists(features)) {
        TRY(build_features(folder, features, network, err));
        add_part(&parts, "features", "model", *network);
    }
    return write_parts(&parts, folder, watch, err);
}

int random_model_fill(const char *folder, RandomWatch watch, Error *err) {
    Pipeline *p = NULL;
    Weights *network = NULL;
    Arena *a = arena_new();
    const char *features = a ? path_join(a, folder, "features/config.json") : NULL;
    const int code = features ? fill(folder, features, &p, &network, watch, err)
                              : fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    weights_free(network);
    pipeline_free(p);
    arena_free(a);
    return code;
}

/* ---- documents ---- */
static const char FEATURES[] = "{\"in_channels\": 4, \"layers\": [3, 4, 6, 3], \"width\": [256, 512, 1024, 1024], "
                               "\"norm_eps\": 1e-05, \"std_eps\": 1e-06, \"std_floor\": true}";

static int put_text(Arena *a, const char *folder, const char *name, const char *text, Error *err) {
    char *path = path_join(a, folder, name);
    if (!path || !text) return fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    char *slash = strrchr(path, '/');
    *slash = 0;
    TRY(dir_make(path, err));
    *slash = '/';
    return file_write_atomic(path, text, strlen(text), err);
}

/* The given vocabulary with the length and padding of the published tokenizer. */
static int put_tokenizer(Arena *a, const char *from, const char *folder, const char *name, const char *pad,
                         Error *err) {
    static const char *const copied[] = {"vocab.json", "merges.txt"};
    enum { LARGEST = 16 << 20 };
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        const char *source = path_join(a, from, copied[i]);
        char *text;
        if (!source) return fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
        TRY(file_read_text(source, LARGEST, a, &text, NULL, err));
        TRY(put_text(a, folder, arena_printf(a, "%s/%s", name, copied[i]), text, err));
    }
    const char *special = arena_printf(a,
                                       "\"bos_token\": \"<|startoftext|>\", \"eos_token\": \"<|endoftext|>\", "
                                       "\"unk_token\": \"<|endoftext|>\", \"pad_token\": \"%s\"",
                                       pad);
    TRY(put_text(a, folder, arena_printf(a, "%s/special_tokens_map.json", name), arena_printf(a, "{%s}", special),
                 err));
    return put_text(a, folder, arena_printf(a, "%s/tokenizer_config.json", name),
                    arena_printf(a,
                                 "{%s, \"add_prefix_space\": false, \"do_lower_case\": true, \"errors\": \"replace\", "
                                 "\"model_max_length\": 77, \"tokenizer_class\": \"CLIPTokenizer\"}",
                                 special),
                    err);
}

static int put_documents(Family f, const char *tokenizer, const char *folder, Arena *a, Error *err) {
    const bool two = f == FAMILY_SDXL_TURBO;
    for (int i = 0; family_document_name(f, i); i++) {
        const char *name = family_document_name(f, i);
        TRY(put_text(a, folder, name, family_document(f, name), err));
    }
    TRY(put_text(a, folder, "features/config.json", FEATURES, err));
    TRY(put_tokenizer(a, tokenizer, folder, "tokenizer", two ? "<|endoftext|>" : "!", err));
    return two ? put_tokenizer(a, tokenizer, folder, "tokenizer_2", "!", err) : 0;
}

int random_model_make(Family f, const char *tokenizer, const char *folder, RandomWatch watch, Error *err) {
    Arena *a = arena_new();
    const char *tmp = a ? arena_printf(a, "%s.tmp", folder) : NULL;
    int code = tmp ? dir_remove(tmp, err) : fail(err, DRPO_E_MEMORY, "%s: out of memory", folder);
    if (code == 0) code = put_documents(f, tokenizer, tmp, a, err);
    if (code == 0) code = random_model_fill(tmp, watch, err);
    if (code == 0) code = dir_commit(tmp, folder, err);
    if (code < 0 && tmp) dir_remove(tmp, NULL);
    arena_free(a);
    return code;
}
