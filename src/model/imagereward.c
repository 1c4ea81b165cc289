/* ImageReward's score of pictures for one prompt.
 *
 *     pictures -> states of 197 tokens (ViT-L/16) -> BERT reads the prompt and looks at them -> state of [CLS] -> head
 *     score = (head - 0.16717362830052426) / 1.0333394966054072
 *
 * The networks have no config: their sizes are those of the tensors. BERT is planned for each length of a text that
 * occurs (3 to 35 tokens), the tower for each number of pictures up to BATCH: with the 197 tokens of one picture its
 * products would spend as long on reading their weights. The plans share these. */
#include "model/imagereward.h"

#include <stdlib.h>

#include "base/file.h"
#include "engine/plan.h"
#include "format/json.h"
#include "format/picture_prepare.h"
#include "model/tokenizer_wordpiece.h"

enum { MOST_TOKENS = 35, PUBLISHED_HEAD = 64, MOST_LAYERS = 128, BATCH = 8 };
static const double SCORE_MEAN = 0.16717362830052426, SCORE_DEVIATION = 1.0333394966054072;

typedef struct Net {
    Arena *arena;
    Plan *plan;
    Value in, picture, out; /* picture: of the text network */
} Net;

struct ImageReward {
    Backend *backend;
    Weights *weights;
    ImageRewardConfig config;
    PictureRule rule;
    WordPiece *tokenizer;
    Net vision[BATCH + 1], text[MOST_TOKENS + 1]; /* by number of pictures, of tokens */
};

/* ---- sizes ---- */

static int find_shape(const Weights *w, const char *name, int rank, Shape *out, Error *err) {
    if (weights_shape(w, out, "%s", name) && out->rank == rank && shape_count(*out) > 0) return 0;
    return fail(err, DRPO_E_INPUT, "%s: tensor '%s' is missing or of another form; ImageReward.pt belongs here",
                weights_path(w), name);
}

/* How many of BEFORE<i>AFTER there are. */
static int count_layers(const Weights *w, const char *before, const char *after) {
    int n = 0;
    while (n < MOST_LAYERS && weights_has(w, "%s%d%s", before, n, after)) n++;
    return n;
}

static int read_vision(const Weights *w, ImageRewardConfig *c, Error *err) {
    Shape place, patch, wide = {0};
    TRY(find_shape(w, "blip.visual_encoder.pos_embed", 3, &place, err));
    TRY(find_shape(w, "blip.visual_encoder.patch_embed.proj.weight", 4, &patch, err));
    TRY(find_shape(w, "blip.visual_encoder.blocks.0.mlp.fc1.weight", 2, &wide, err));
    int side = 1;
    while ((int64_t)side * side < place.dim[1] - 1) side++;
    if ((int64_t)side * side != place.dim[1] - 1)
        return fail(err, DRPO_E_INPUT, "%s: %lld positions are no square of patches and one more", weights_path(w),
                    (long long)place.dim[1]);
    c->vision_width = (int)patch.dim[0];
    c->patch = (int)patch.dim[2];
    c->image = side * c->patch;
    c->vision_mlp = (int)wide.dim[0];
    c->vision_layers = count_layers(w, "blip.visual_encoder.blocks.", ".norm1.weight");
    return 0;
}

static int read_text(const Weights *w, ImageRewardConfig *c, Error *err) {
    Shape words, places, wide;
    TRY(find_shape(w, "blip.text_encoder.embeddings.word_embeddings.weight", 2, &words, err));
    TRY(find_shape(w, "blip.text_encoder.embeddings.position_embeddings.weight", 2, &places, err));
    TRY(find_shape(w, "blip.text_encoder.encoder.layer.0.intermediate.dense.weight", 2, &wide, err));
    c->vocab = (int)words.dim[0];
    c->width = (int)words.dim[1];
    c->positions = (int)places.dim[0];
    c->mlp = (int)wide.dim[0];
    c->layers = count_layers(w, "blip.text_encoder.encoder.layer.", ".intermediate.dense.weight");
    if (c->positions >= MOST_TOKENS) return 0;
    return fail(err, DRPO_E_INPUT, "%s: %d positions of text are fewer than %d", weights_path(w), c->positions,
                MOST_TOKENS);
}

/* Heads are as wide in both networks of the published model; its med_config.json knows those of BERT. */
static int read_heads(const char *folder, ImageRewardConfig *c, Error *err) {
    Arena *arena = arena_new();
    const char *path = arena ? path_join(arena, folder, "med_config.json") : NULL;
    json_t *root = NULL;
    int code = path ? 0 : fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
    c->head = PUBLISHED_HEAD;
    c->eps = 1e-12f;
    if (code == 0 && file_exists(path)) code = json_load_path(path, &root, err);
    if (code == 0 && root) {
        Error local = {0};
        const JsonReader r = {root, path, err ? err : &local};
        const int64_t heads = json_get_int(&r, "num_attention_heads", c->width / c->head);
        c->head = heads > 0 && c->width % heads == 0 ? (int)(c->width / heads) : 0;
        c->eps = (float)json_get_number(&r, "layer_norm_eps", 1e-12);
        code = json_finish(&r);
    }
    if (code == 0 && (c->head < 1 || c->width % c->head || c->vision_width % c->head || !(c->eps > 0)))
        code = fail(err, DRPO_E_INPUT,
                    "%s: widths %d and %d do not divide into heads of one width; does med_config.json fit?", folder,
                    c->width, c->vision_width);
    json_decref(root);
    arena_free(arena);
    return code;
}

int imagereward_config_read(const char *folder, const Weights *w, ImageRewardConfig *c, Error *err) {
    *c = (ImageRewardConfig){0};
    TRY(read_vision(w, c, err));
    TRY(read_text(w, c, err));
    return read_heads(folder, c, err);
}

/* ---- networks ---- */

static void net_free(Net *n) {
    plan_free(n->plan);
    arena_free(n->arena);
    *n = (Net){0};
}

static void build_vision(Build *b, const ImageRewardConfig *c, int pictures, Net *n) {
    n->in = input(b->g, "pixels", DT_F32, shape4(pictures, 3, c->image, c->image));
    n->out = imagereward_vision_build(b, c, n->in);
}

static void build_text(Build *b, const ImageRewardConfig *c, int tokens, Net *n) {
    const int64_t side = c->image / c->patch;
    n->in = input(b->g, "ids", DT_I32, shape2(1, tokens));
    n->picture = input(b->g, "picture", DT_F32, shape3(1, 1 + side * side, c->vision_width));
    n->out = imagereward_text_build(b, c, n->in, n->picture, NULL);
}

typedef void BuildNet(Build *b, const ImageRewardConfig *c, int size, Net *n);

static int net_make(const ImageReward *m, BuildNet *build, int size, Net *n, Error *err) {
    n->arena = arena_new();
    Build b = {.g = n->arena ? graph_new(n->arena) : NULL, .weights = m->weights};
    if (!b.g) return fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
    build(&b, &m->config, size, n);
    TRY(graph_check(b.g, err));
    n->out = output(b.g, n->out, "out");
    TRY(fuse_graph(b.g, err));
    TRY(plan_new(b.g, m->backend, &n->plan, err));
    return plan_bind(n->plan, NULL, err);
}

static int net_ready(const ImageReward *m, BuildNet *build, int size, Net *n, Error *err) {
    if (n->plan) return 0;
    int code = net_make(m, build, size, n, err);
    if (code < 0) net_free(n);
    return code;
}

/* ---- opening ---- */

/* Both networks ask for their tensors, so that a wrong file is refused before anything is computed. */
static int check_weights(ImageReward *m, Error *err) {
    Arena *arena = arena_new();
    Build b = {.g = arena ? graph_new(arena) : NULL, .weights = m->weights};
    int code = b.g ? 0 : fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
    if (code == 0) {
        Net n;
        build_vision(&b, &m->config, 1, &n);
        build_text(&b, &m->config, 3, &n);
        imagereward_ignore(m->weights);
        code = weights_finish(m->weights, err);
    }
    if (code == 0) code = graph_check(b.g, err);
    arena_free(arena);
    return code;
}

static int open_weights(ImageReward *m, const char *folder, Arena *arena, Error *err) {
    static const char *const names[] = {"ImageReward.safetensors", "ImageReward.pt"};
    const char *path = NULL;
    for (int i = 0; i < 2 && !(path && file_exists(path)); i++)
        if (!(path = path_join(arena, folder, names[i]))) return fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
    return weights_open_file(path, &m->weights, err);
}

static int open_parts(ImageReward *m, const char *folder, Arena *arena, Error *err) {
    const char *vocab = path_join(arena, folder, "vocab.txt");
    if (!vocab) return fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
    TRY(open_weights(m, folder, arena, err));
    TRY(imagereward_config_read(folder, m->weights, &m->config, err));
    TRY(check_weights(m, err));
    TRY(wordpiece_open(vocab, &m->tokenizer, err));
    if (wordpiece_size(m->tokenizer) > m->config.vocab)
        return fail(err, DRPO_E_INPUT, "%s: has %d tokens, the network only %d", vocab, wordpiece_size(m->tokenizer),
                    m->config.vocab);
    m->rule = picture_rule_clip;
    m->rule.size = m->config.image;
    m->rule.crop = CROP_ROUND;
    return 0;
}

int imagereward_open(const char *folder, Backend *backend, ImageReward **out, Error *err) {
    *out = NULL;
    Arena *arena = arena_new();
    ImageReward *m = calloc(1, sizeof *m);
    int code = arena && m ? 0 : fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
    if (code == 0) m->backend = backend;
    if (code == 0) code = open_parts(m, folder, arena, err);
    arena_free(arena);
    if (code < 0) {
        imagereward_free(m);
        return code;
    }
    *out = m;
    return 0;
}

void imagereward_free(ImageReward *m) {
    if (!m) return;
    for (int i = 0; i <= BATCH; i++) net_free(&m->vision[i]);
    for (int i = 0; i <= MOST_TOKENS; i++) net_free(&m->text[i]);
    wordpiece_free(m->tokenizer);
    weights_free(m->weights);
    free(m);
}

/* ---- memory ---- */

int imagereward_plan(ImageReward *m, const char *prompt, int pictures, Error *err) {
    TokenIds ids = {0};
    const int rest = pictures % BATCH;
    TRY(wordpiece_encode(m->tokenizer, prompt, MOST_TOKENS, &ids, err));
    int code = net_ready(m, build_text, (int)ids.n, &m->text[ids.n], err);
    if (code == 0 && pictures >= BATCH) code = net_ready(m, build_vision, BATCH, &m->vision[BATCH], err);
    if (code == 0 && rest) code = net_ready(m, build_vision, rest, &m->vision[rest], err);
    free(ids.id);
    return code;
}

size_t imagereward_pending(const ImageReward *m, size_t *mapped) {
    *mapped = weights_in_place(m->weights, m->backend) -
              weights_in_place_of(m->weights, m->backend, "blip.text_encoder.embeddings.word_embeddings.weight");
    return backend_pending(m->backend);
}

/* ---- scores ---- */

typedef struct Buffers {
    float *pixels, *states; /* of a batch: [n,3,image,image], [n,tokens,vision width] */
    TokenIds ids;
} Buffers;

static int read_prompt(ImageReward *m, const Buffers *b, const float *states, float *score, Error *err) {
    Net *text = &m->text[b->ids.n];
    float value;
    plan_write(text->plan, text->in, b->ids.id);
    plan_write(text->plan, text->picture, states);
    TRY(plan_run(text->plan, err));
    plan_read(text->plan, text->out, &value);
    *score = (float)(((double)value - SCORE_MEAN) / SCORE_DEVIATION);
    return 0;
}

/* n pictures, at most BATCH */
static int score_batch(ImageReward *m, const Buffers *b, const uint8_t *rgb, int n, int width, int height,
                       float *scores, Error *err) {
    Net *vision = &m->vision[n];
    const size_t side = (size_t)m->config.image, bytes = (size_t)width * (size_t)height * 3;
    TRY(net_ready(m, build_vision, n, vision, err));
    for (int i = 0; i < n; i++)
        TRY(picture_prepare(&m->rule, rgb + (size_t)i * bytes, width, height, b->pixels + (size_t)i * 3 * side * side,
                            err));
    plan_write(vision->plan, vision->in, b->pixels);
    TRY(plan_run(vision->plan, err));
    plan_read(vision->plan, vision->out, b->states);
    const size_t states = (size_t)shape_count(vision->out->shape) / (size_t)n;
    for (int i = 0; i < n; i++) TRY(read_prompt(m, b, b->states + (size_t)i * states, scores + i, err));
    return 0;
}

static int prepare_buffers(ImageReward *m, const char *prompt, int batch, Buffers *b, Error *err) {
    const ImageRewardConfig *c = &m->config;
    const size_t side = (size_t)c->image, patches = (size_t)(c->image / c->patch), tokens = 1 + patches * patches;
    TRY(wordpiece_encode(m->tokenizer, prompt, MOST_TOKENS, &b->ids, err));
    TRY(net_ready(m, build_text, (int)b->ids.n, &m->text[b->ids.n], err));
    b->pixels = malloc((size_t)batch * 3 * side * side * sizeof *b->pixels);
    b->states = malloc((size_t)batch * tokens * (size_t)c->vision_width * sizeof *b->states);
    return b->pixels && b->states ? 0 : fail(err, DRPO_E_MEMORY, "imagereward: out of memory");
}

int imagereward_score(ImageReward *m, const char *prompt, const uint8_t *rgb, int count, int width, int height,
                      float *scores, Error *err) {
    Buffers b = {0};
    const size_t bytes = (size_t)width * (size_t)height * 3;
    int code = prepare_buffers(m, prompt, count < BATCH ? count : BATCH, &b, err);
    for (int k = 0; code == 0 && k < count; k += BATCH)
        code = score_batch(m, &b, rgb + (size_t)k * bytes, count - k < BATCH ? count - k : BATCH, width, height,
                           scores + k, err);
    free(b.pixels);
    free(b.states);
    free(b.ids.id);
    return code;
}
