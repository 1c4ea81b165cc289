/* CLIP's towers planned and run: a text pass with a memory, vision passes by batch, one vision pass with a gradient. */
#include "model/clip_pass.h"

#include <stdlib.h>
#include <string.h>

#include "engine/autodiff.h"
#include "engine/plan.h"
#include "format/resize.h"

enum { SLOTS = 4096 };

typedef struct Net {
    Arena *arena;
    Plan *plan;
    Value in, at_end, out; /* at_end: text */
    Value seed, d_in;      /* with a gradient */
} Net;

/* What the gradient of a picture needs to know about it. */
typedef struct Remembered {
    Resize resize;
    float *pixels, *image; /* [3,size,size], [3,height,width]; one block */
    int height, width;
} Remembered;

struct ClipPass {
    ClipModel *model;
    Backend *backend;
    const PictureRule *rule;
    Net text, vision[CLIP_BATCH + 1], gradient;
    int32_t *ids;  /* [T] */
    float *at_end; /* [T] */
    float *pixels; /* [CLIP_BATCH,3,size,size] */
    char **slot;   /* [SLOTS] texts */
    float *cache;  /* [SLOTS,projection] */
    Remembered last;
};

/* ---- networks ---- */

static void net_free(Net *n) {
    plan_free(n->plan);
    arena_free(n->arena);
    *n = (Net){0};
}

static int net_begin(const ClipPass *p, Net *n, Build *b, Error *err) {
    n->arena = arena_new();
    *b = (Build){.g = n->arena ? graph_new(n->arena) : NULL, .weights = p->model->weights};
    return b->g ? 0 : fail(err, DRPO_E_MEMORY, "clip: out of memory");
}

static int net_plan(const ClipPass *p, Net *n, Graph *g, Error *err) {
    TRY(plan_new(g, p->backend, &n->plan, err));
    return plan_bind(n->plan, NULL, err);
}

static int make_text(const ClipPass *p, Net *n, Error *err) {
    const ClipTextConfig *c = &p->model->config.text;
    const int tokens = tokenizer_length(p->model->tokenizer);
    Build b;
    Value last = NULL;
    TRY(net_begin(p, n, &b, err));
    n->in = input(b.g, "ids", DT_I32, shape2(1, tokens));
    n->at_end = input(b.g, "at_end", DT_F32, shape3(1, 1, tokens));
    clip_text_build(&b, c, n->in, &last, NULL);
    n->out = clip_text_project(&b, c, last, n->at_end);
    TRY(graph_check(b.g, err));
    output(b.g, n->out, "embedding");
    TRY(fuse_graph(b.g, err));
    return net_plan(p, n, b.g, err);
}

static int build_vision(const ClipPass *p, Net *n, int batch, Build *b, Error *err) {
    const ClipConfig *c = &p->model->config;
    TRY(net_begin(p, n, b, err));
    n->in = input(b->g, "pixels", DT_F32, shape4(batch, 3, c->vision.image, c->vision.image));
    n->out = clip_vision_build(b, &c->vision, c->projection, n->in);
    TRY(graph_check(b->g, err));
    output(b->g, n->out, "embedding");
    return fuse_graph(b->g, err);
}

static int make_vision(const ClipPass *p, Net *n, int batch, Error *err) {
    Build b;
    TRY(build_vision(p, n, batch, &b, err));
    return net_plan(p, n, b.g, err);
}

static int make_gradient(const ClipPass *p, Net *n, Error *err) {
    Build b;
    size_t peak = 0;
    TRY(build_vision(p, n, 1, &b, err));
    n->seed = input(b.g, "d_embedding", DT_F32, n->out->shape);
    TRY(graph_backward(b.g, &n->out, &n->seed, 1, &n->in, 1, &n->d_in, err));
    TRY(recompute_graph(b.g, p->backend, CLIP_GRADIENT_BYTES, &peak, err));
    return net_plan(p, n, b.g, err);
}

/* Plans at the first use. */
static int net_ready(const ClipPass *p, Net *n, int batch, Error *err) {
    if (n->plan) return 0;
    const int code = n == &p->text       ? make_text(p, n, err)
                     : n == &p->gradient ? make_gradient(p, n, err)
                                         : make_vision(p, n, batch, err);
    if (code < 0) net_free(n);
    return code;
}

/* ---- opening ---- */

int clip_pass_new(ClipModel *m, Backend *b, const PictureRule *rule, ClipPass **out, Error *err) {
    *out = NULL;
    const size_t tokens = m->tokenizer ? (size_t)tokenizer_length(m->tokenizer) : 1;
    const size_t side = (size_t)m->config.vision.image;
    ClipPass *p = calloc(1, sizeof *p);
    if (!p) return fail(err, DRPO_E_MEMORY, "clip: out of memory");
    p->model = m;
    p->backend = b;
    p->rule = rule;
    p->ids = calloc(tokens, sizeof *p->ids);
    p->at_end = calloc(tokens, sizeof *p->at_end);
    p->pixels = malloc(CLIP_BATCH * 3 * side * side * sizeof *p->pixels);
    p->slot = calloc(SLOTS, sizeof *p->slot);
    p->cache = calloc(SLOTS, (size_t)m->config.projection * sizeof *p->cache); /* pages appear as texts do */
    int code =
        p->ids && p->at_end && p->pixels && p->slot && p->cache ? 0 : fail(err, DRPO_E_MEMORY, "clip: out of memory");
    if (code == 0 && rule->size != m->config.vision.image)
        code = fail(err, DRPO_E_INTERNAL, "clip: pictures of %d pixels for a tower of %d", rule->size,
                    m->config.vision.image);
    if (code == 0)
        *out = p;
    else
        clip_pass_free(p);
    return code;
}

static void forget(Remembered *r) {
    resize_free(&r->resize);
    free(r->pixels);
    *r = (Remembered){0};
}

void clip_pass_free(ClipPass *p) {
    if (!p) return;
    for (int i = 0; i <= CLIP_BATCH; i++) net_free(&p->vision[i]);
    net_free(&p->text);
    net_free(&p->gradient);
    for (int i = 0; p->slot && i < SLOTS; i++) free(p->slot[i]);
    free(p->slot);
    free(p->cache);
    free(p->pixels);
    free(p->ids);
    free(p->at_end);
    forget(&p->last);
    free(p);
}

/* ---- memory ---- */

int clip_pass_plan(ClipPass *p, int pictures, bool gradient, Error *err) {
    const int rest = pictures % CLIP_BATCH;
    if (p->model->tokenizer) TRY(net_ready(p, &p->text, 1, err));
    if (pictures >= CLIP_BATCH) TRY(net_ready(p, &p->vision[CLIP_BATCH], CLIP_BATCH, err));
    if (rest) TRY(net_ready(p, &p->vision[rest], rest, err));
    return gradient ? net_ready(p, &p->gradient, 1, err) : 0;
}

size_t clip_pass_pending(const ClipPass *p, size_t texts, size_t *mapped) {
    const Weights *w = p->model->weights;
    const size_t side = (size_t)p->rule->size, remembered = p->text.plan ? (texts < SLOTS ? texts : SLOTS) : 0;
    *mapped = weights_in_place(w, p->backend) -
              weights_in_place_of(w, p->backend, "text_model.embeddings.token_embedding.weight");
    return backend_pending(p->backend) + CLIP_BATCH * 3 * side * side * sizeof *p->pixels +
           remembered * (size_t)p->model->config.projection * sizeof *p->cache;
}

/* ---- texts ---- */

static int encode(ClipPass *p, const char *text, float *embedding, Error *err) {
    Net *n = &p->text;
    TRY(net_ready(p, n, 1, err));
    TRY(tokenizer_encode(p->model->tokenizer, text, p->ids, NULL, err));
    clip_text_find_end(&p->model->config.text, p->ids, tokenizer_length(p->model->tokenizer), p->at_end);
    plan_write(n->plan, n->in, p->ids);
    plan_write(n->plan, n->at_end, p->at_end);
    TRY(plan_run(n->plan, err));
    plan_read(n->plan, n->out, embedding);
    return 0;
}

int clip_pass_text(ClipPass *p, const char *text, const float **embedding, Error *err) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *c = text; *c; c++) hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    char **slot = &p->slot[hash % SLOTS];
    float *cached = p->cache + hash % SLOTS * (size_t)p->model->config.projection;
    if (!*slot || strcmp(*slot, text) != 0) {
        char *copy = strdup(text);
        if (!copy) return fail(err, DRPO_E_MEMORY, "clip: out of memory");
        free(*slot);
        *slot = NULL;
        const int code = encode(p, text, cached, err);
        if (code < 0) {
            free(copy);
            return code;
        }
        *slot = copy;
    }
    *embedding = cached;
    return 0;
}

/* ---- pictures ---- */

static int run_batch(ClipPass *p, const uint8_t *rgb, int n, int height, int width, float *embeddings, Error *err) {
    Net *net = &p->vision[n];
    const size_t bytes = (size_t)height * (size_t)width * 3, plane = (size_t)p->rule->size * (size_t)p->rule->size;
    TRY(net_ready(p, net, n, err));
    for (int i = 0; i < n; i++)
        TRY(picture_prepare(p->rule, rgb + (size_t)i * bytes, width, height, p->pixels + (size_t)i * 3 * plane, err));
    plan_write(net->plan, net->in, p->pixels);
    TRY(plan_run(net->plan, err));
    plan_read(net->plan, net->out, embeddings);
    return 0;
}

int clip_pass_pictures(ClipPass *p, const uint8_t *rgb, int n, int height, int width, float *embeddings, Error *err) {
    const size_t bytes = (size_t)height * (size_t)width * 3;
    for (int first = 0; first < n; first += CLIP_BATCH) {
        const int part = n - first < CLIP_BATCH ? n - first : CLIP_BATCH;
        TRY(run_batch(p, rgb + (size_t)first * bytes, part, height, width,
                      embeddings + (size_t)first * (size_t)p->model->config.projection, err));
    }
    return 0;
}

/* ---- gradient ---- */

static int remember(ClipPass *p, int height, int width, Error *err) {
    Remembered *r = &p->last;
    const size_t plane = (size_t)p->rule->size * (size_t)p->rule->size, pixels = (size_t)height * (size_t)width;
    if (r->pixels && r->height == height && r->width == width) return 0;
    forget(r);
    TRY(resize_new(RESIZE_PIL, width, height, p->rule->size, p->rule->size, &r->resize, err));
    r->pixels = malloc((3 * plane + 3 * pixels) * sizeof *r->pixels);
    if (!r->pixels) return fail(err, DRPO_E_MEMORY, "clip: out of memory for a picture's gradient");
    r->image = r->pixels + 3 * plane;
    r->height = height;
    r->width = width;
    return 0;
}

int clip_pass_pixels(ClipPass *p, const float *image, int height, int width, float *embedding, Error *err) {
    Net *n = &p->gradient;
    TRY(net_ready(p, n, 1, err));
    TRY(remember(p, height, width, err));
    Remembered *r = &p->last;
    const size_t plane = (size_t)p->rule->size * (size_t)p->rule->size, count = 3 * (size_t)height * (size_t)width;
    for (size_t i = 0; i < count; i++) r->image[i] = image[i] < -1 ? -1 : image[i] > 1 ? 1 : image[i];
    TRY(resize_planes(&r->resize, r->image, 3, r->pixels, err));
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < plane; i++) {
            float *x = &r->pixels[c * plane + i];
            *x = (0.5f * *x + 0.5f - p->rule->mean[c]) / p->rule->std[c];
        }
    memcpy(r->image, image, count * sizeof *image); /* the gradient asks what was clamped */
    plan_write(n->plan, n->in, r->pixels);
    TRY(plan_run_forward(n->plan, err));
    plan_read(n->plan, n->out, embedding);
    return 0;
}

int clip_pass_pixels_gradient(ClipPass *p, const float *d_embedding, float *d_image, Error *err) {
    Net *n = &p->gradient;
    Remembered *r = &p->last;
    if (!n->plan || !r->pixels) return fail(err, DRPO_E_INTERNAL, "clip: a gradient before its picture");
    const size_t plane = (size_t)p->rule->size * (size_t)p->rule->size;
    const size_t count = 3 * (size_t)r->height * (size_t)r->width;
    plan_write(n->plan, n->seed, d_embedding);
    TRY(plan_run_backward(n->plan, err));
    plan_read(n->plan, n->d_in, r->pixels);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < plane; i++) r->pixels[c * plane + i] *= 0.5f / p->rule->std[c];
    TRY(resize_planes_adjoint(&r->resize, r->pixels, 3, d_image, err));
    for (size_t i = 0; i < count; i++)
        if (!(r->image[i] >= -1 && r->image[i] <= 1)) d_image[i] = 0; /* clamp holds it */
    return 0;
}
