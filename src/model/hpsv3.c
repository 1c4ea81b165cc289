/* HPSv3's score of one picture.
 *
 *     picture -> about 256 states (vision tower)
 *     text ids -> embeddings, the picture's states in their places -> decoder -> state h at the reward token
 *     score = W5 relu(W3 relu(W0 h + b0) + b3) + b5
 *
 * The authors run the decoder without positions of their own, so all three axes of the rotary embedding hold the plain
 * index of a token. 8.3 billion weights stay in the mapped file as bfloat16; linear layers make float32 of a few rows
 * at a time (engine/cpu/op_stored.c). A network is planned for a size of picture and a length of text and kept until
 * another is asked for. */
#include "model/hpsv3.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/plan.h"
#include "format/resize.h"
#include "model/hpsv3_prompt.h"

enum { CELLS = 256 }; /* a picture is resized to about so many states */

/* A network planned for one size: rows x columns patches, or `rows` tokens. */
typedef struct Net {
    Arena *arena;
    Plan *plan;
    Value in, cosine, sine, out;
    float *angles; /* [cosine | sine] */
    int rows, columns;
} Net;

struct Hpsv3 {
    Backend *backend;
    Weights *weights;
    Qwen2VlConfig config;
    Hpsv3Prompt *prompt;
    Param *embeddings; /* [V,width] */
    Net vision, text;
};

/* ---- networks ---- */

/* Widths of the published head are 1024 and 16; the file knows them. */
static Value head_layer(Build *b, Value x, const char *name) {
    Shape shape = shape2(1, 1);
    (void)weights_shape(b->weights, &shape, "%s.weight", name);
    return layer_linear(b, x, shape.dim[0], true, "%s", name);
}

Value hpsv3_head_build(Build *b, Value state) {
    Value h = act(b->g, head_layer(b, state, "rm_head.0"), ACT_RELU);
    h = act(b->g, head_layer(b, h, "rm_head.3"), ACT_RELU);
    return layer_linear(b, h, 2, true, "rm_head.5");
}

static Value angle_input(Graph *g, const char *name, int64_t rows, int64_t size) {
    return input(g, name, DT_F32, shape3(rows, 1, size));
}

static void build_vision(Build *b, const Qwen2VlConfig *c, int64_t patches, Net *n) {
    int64_t size = c->vision.width / c->vision.heads;
    n->in = input(b->g, "patches", DT_F32, shape3(1, patches, qwen2_vl_patch_numbers(&c->vision)));
    n->cosine = angle_input(b->g, "vision_cosine", patches, size);
    n->sine = angle_input(b->g, "vision_sine", patches, size);
    n->out = qwen2_vl_vision_build(b, c, n->in, n->cosine, n->sine);
}

static void build_text(Build *b, const Qwen2VlConfig *c, int64_t tokens, Net *n) {
    int64_t size = c->width / c->heads;
    n->in = input(b->g, "states", DT_F32, shape3(1, tokens, c->width));
    n->cosine = angle_input(b->g, "text_cosine", tokens, size);
    n->sine = angle_input(b->g, "text_sine", tokens, size);
    n->out = hpsv3_head_build(b, qwen2_vl_text_build(b, c, n->in, n->cosine, n->sine, true));
}

void hpsv3_build_smallest(Build *b, const Qwen2VlConfig *c) {
    Net vision, text;
    build_vision(b, c, (int64_t)c->vision.merge * c->vision.merge, &vision);
    build_text(b, c, 1, &text);
    (void)qwen2_vl_embeddings(b->weights, c);
    weights_ignore(b->weights, "lm_head.");
}

static void net_free(Net *n) {
    plan_free(n->plan);
    arena_free(n->arena);
    free(n->angles);
    *n = (Net){0};
}

static int net_angles(const Hpsv3 *m, Net *n, bool vision, Error *err) {
    const size_t count = (size_t)shape_count(n->cosine->shape);
    const int tokens = (int)n->cosine->shape.dim[0];
    n->angles = malloc(2 * count * sizeof(float));
    int32_t *position = calloc(3 * (size_t)tokens, sizeof *position);
    if (!n->angles || !position) {
        free(position);
        return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    }
    for (int i = 0; i < 3 * tokens; i++) position[i] = i % tokens;
    if (vision)
        qwen2_vl_vision_angles(&m->config.vision, n->rows, n->columns, n->angles, n->angles + count);
    else
        qwen2_vl_text_angles(&m->config, position, tokens, n->angles, n->angles + count);
    free(position);
    return 0;
}

static int net_make(const Hpsv3 *m, Net *n, bool vision, Error *err) {
    n->arena = arena_new();
    Build b = {.g = n->arena ? graph_new(n->arena) : NULL, .weights = m->weights};
    if (!b.g) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    if (vision)
        build_vision(&b, &m->config, (int64_t)n->rows * n->columns, n);
    else
        build_text(&b, &m->config, n->rows, n);
    TRY(graph_check(b.g, err));
    n->out = output(b.g, n->out, "out");
    TRY(fuse_graph(b.g, err));
    TRY(net_angles(m, n, vision, err));
    TRY(plan_new(b.g, m->backend, &n->plan, err));
    return plan_bind(n->plan, NULL, err);
}

static int net_fit(const Hpsv3 *m, Net *n, bool vision, int rows, int columns, Error *err) {
    if (n->plan && n->rows == rows && n->columns == columns) return 0;
    net_free(n);
    n->rows = rows;
    n->columns = columns;
    int code = net_make(m, n, vision, err);
    if (code < 0) net_free(n);
    return code;
}

static int net_run(Net *n, const float *in, float *out, Error *err) {
    const size_t count = (size_t)shape_count(n->cosine->shape);
    plan_write(n->plan, n->in, in);
    plan_write(n->plan, n->cosine, n->angles);
    plan_write(n->plan, n->sine, n->angles + count);
    TRY(plan_run(n->plan, err));
    plan_read(n->plan, n->out, out);
    return 0;
}

/* ---- opening ---- */

static int check_weights(Hpsv3 *m, Error *err) {
    Arena *arena = arena_new();
    Build b = {.g = arena ? graph_new(arena) : NULL, .weights = m->weights};
    int code = b.g ? 0 : fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    if (code == 0) {
        hpsv3_build_smallest(&b, &m->config);
        code = weights_finish(m->weights, err); /* says more than the graph about a missing tensor */
    }
    if (code == 0) code = graph_check(b.g, err);
    arena_free(arena);
    return code;
}

static int open_parts(Hpsv3 *m, const char *folder, const char *questions, Arena *arena, Error *err) {
    const char *config = path_join(arena, folder, "config.json");
    const char *named = path_join(arena, folder, "HPSv3.safetensors");
    if (!questions) questions = path_join(arena, folder, "user_text_template.txt");
    if (!config || !named || !questions) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    TRY(qwen2_vl_config_read(config, &m->config, err));
    TRY(hpsv3_prompt_open(folder, questions, &m->prompt, err));
    TRY(weights_open(folder, file_exists(named) ? "HPSv3" : "model", &m->weights, err));
    weights_keep_stored(m->weights);
    TRY(check_weights(m, err));
    m->embeddings = qwen2_vl_embeddings(m->weights, &m->config);
    if (m->embeddings->shape.dim[0] < hpsv3_prompt_vocab(m->prompt))
        return fail(err, DRPO_E_INPUT, "%s: has %lld token embeddings, the tokenizer %d tokens with <|Reward|>",
                    weights_path(m->weights), (long long)m->embeddings->shape.dim[0], hpsv3_prompt_vocab(m->prompt));
    return 0;
}

int hpsv3_open(const char *folder, const char *questions, Backend *backend, Hpsv3 **out, Error *err) {
    *out = NULL;
    Arena *arena = arena_new();
    Hpsv3 *m = calloc(1, sizeof *m);
    int code = arena && m ? 0 : fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    if (code == 0) m->backend = backend;
    if (code == 0) code = open_parts(m, folder, questions, arena, err);
    arena_free(arena);
    if (code < 0) {
        hpsv3_free(m);
        return code;
    }
    *out = m;
    return 0;
}

void hpsv3_free(Hpsv3 *m) {
    if (!m) return;
    net_free(&m->vision);
    net_free(&m->text);
    hpsv3_prompt_free(m->prompt);
    weights_free(m->weights);
    free(m);
}

/* ---- one score ---- */

/* Resized picture -> its states [cells,width]. */
static int see(Hpsv3 *m, const uint8_t *rgb, int width, int height, float *states, Error *err) {
    const QwenVisionConfig *v = &m->config.vision;
    const int rows = height / v->patch, columns = width / v->patch;
    TRY(net_fit(m, &m->vision, true, rows, columns, err));
    float *patches = malloc((size_t)(rows * columns) * (size_t)qwen2_vl_patch_numbers(v) * sizeof *patches);
    if (!patches) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    qwen2_vl_patches(v, rgb, width, height, patches);
    int code = net_run(&m->vision, patches, states, err);
    free(patches);
    return code;
}

/* Ids -> embeddings, except where the picture's states are written later. */
static void embed_tokens(const Hpsv3 *m, const Hpsv3Ids *ids, float *states) {
    const size_t width = (size_t)m->config.width;
    for (size_t t = 0; t < ids->tokens.n; t++)
        dtype_to_f32(m->embeddings->dtype, m->embeddings->data, (size_t)ids->tokens.id[t] * width, width,
                     states + t * width);
}

static int score_resized(Hpsv3 *m, const char *prompt, const uint8_t *rgb, int width, int height, float score[2],
                         Error *err) {
    const int unit = m->config.vision.patch * m->config.vision.merge, cells = width / unit * (height / unit);
    Hpsv3Ids ids;
    TRY(hpsv3_prompt_ids(m->prompt, prompt, cells, &ids, err));
    float *states = malloc(ids.tokens.n * (size_t)m->config.width * sizeof *states);
    int code = states ? 0 : fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    if (code == 0) {
        embed_tokens(m, &ids, states);
        code = see(m, rgb, width, height, states + (size_t)ids.picture_at * (size_t)m->config.width, err);
    }
    if (code == 0) code = net_fit(m, &m->text, false, (int)ids.tokens.n, 0, err);
    if (code == 0) code = net_run(&m->text, states, score, err);
    free(states);
    free(ids.tokens.id);
    return code;
}

int hpsv3_score(Hpsv3 *m, const char *prompt, const uint8_t *rgb, int width, int height, float score[2], Error *err) {
    const QwenVisionConfig *v = &m->config.vision;
    const int64_t unit = (int64_t)v->patch * v->merge;
    int w, h;
    TRY(qwen2_vl_picture_size(v, CELLS * unit * unit, width, height, &w, &h, err));
    uint8_t *resized = malloc((size_t)w * (size_t)h * 3);
    if (!resized) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    int code = resize_rgb(rgb, width, height, resized, w, h, err);
    if (code == 0) code = score_resized(m, prompt, resized, w, h, score, err);
    free(resized);
    return code;
}

/* ---- memory ---- */

int hpsv3_plan(Hpsv3 *m, const char *prompt, int width, int height, Error *err) {
    const QwenVisionConfig *v = &m->config.vision;
    const int unit = v->patch * v->merge;
    int w, h;
    Hpsv3Ids ids;
    TRY(qwen2_vl_picture_size(v, (int64_t)CELLS * unit * unit, width, height, &w, &h, err));
    TRY(hpsv3_prompt_ids(m->prompt, prompt, w / unit * (h / unit), &ids, err));
    int code = net_fit(m, &m->vision, true, h / v->patch, w / v->patch, err);
    if (code == 0) code = net_fit(m, &m->text, false, (int)ids.tokens.n, 0, err);
    free(ids.tokens.id);
    return code;
}

/* The table of embeddings is in no network: only the rows of the text are read. */
size_t hpsv3_pending(const Hpsv3 *m, size_t *mapped) {
    *mapped = weights_in_place(m->weights, m->backend);
    return backend_pending(m->backend);
}
