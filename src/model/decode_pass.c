/* Decode pass: builds, plans and runs the VAE decoder, or a TAESD in its place. The third stage of the update, and the
 * end of sampling. */
#include "model/decode_pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan.h"

struct DecodePass {
    const TaesdConfig *small; /* NULL: the VAE's decoder */
    Arena *arena;
    Plan *plan;
    Value latents, image;
    int batch;
    size_t latent_count, plane; /* C*h*w; H*W of the picture */
    float *input, *pixels;      /* [batch,C,h,w], [batch,3,H,W] */
};

/* What the latents go through; `small` NULL: the VAE of the pipeline. */
typedef struct Decoder {
    Pipeline *pipeline;
    Taesd *small;
} Decoder;

static Value append_vae(const VaeConfig *c, Build *b, Value latents) {
    return vae_decode(b, c, affine(b->g, latents, 1.0f / c->scaling_factor, c->shift_factor));
}

static int build(DecodePass *d, const Decoder *from, Backend *b, int height, int width, Error *err) {
    Pipeline *p = from->pipeline;
    d->arena = arena_new();
    Graph *g = d->arena ? graph_new(d->arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "decoder: out of memory");
    Build layers = {.g = g, .weights = d->small ? from->small->weights : p->vae_weights};
    const int channels = d->small ? d->small->latent_channels : p->vae.latent_channels;
    d->latents = input(g, "latents", DT_F32, shape4(d->batch, channels, height, width));
    Value image = d->small ? taesd_decode(&layers, d->small, d->latents) : append_vae(&p->vae, &layers, d->latents);
    d->image = output(g, image, "image");
    TRY(graph_check(g, err));
    TRY(fuse_graph(g, err));
    TRY(plan_new(g, b, &d->plan, err));
    d->latent_count = (size_t)(shape_count(d->latents->shape) / d->batch);
    d->plane = (size_t)(d->image->shape.dim[2] * d->image->shape.dim[3]);
    d->input = malloc((size_t)d->batch * d->latent_count * sizeof(float));
    d->pixels = malloc((size_t)d->batch * 3 * d->plane * sizeof(float));
    if (!d->input || !d->pixels) return fail(err, DRPO_E_MEMORY, "decoder: out of memory");
    return 0;
}

int decode_batch(int count, int height, int width) {
    enum { PIXELS = 1 << 16 };
    int batch = PIXELS / (height * width);
    if (batch > count) batch = count;
    return batch > 1 ? batch : 1;
}

static int open_pass(const Decoder *from, Backend *b, int batch, int height, int width, DecodePass **out, Error *err) {
    DecodePass *d = calloc(1, sizeof *d);
    if (!d) return fail(err, DRPO_E_MEMORY, "decoder: out of memory");
    d->small = from->small ? &from->small->config : NULL;
    d->batch = batch;
    int code = build(d, from, b, height, width, err);
    if (code < 0) {
        decode_pass_free(d);
        return code;
    }
    *out = d;
    return 0;
}

int decode_pass_new(Pipeline *p, Backend *b, int batch, int height, int width, DecodePass **out, Error *err) {
    return open_pass(&(Decoder){.pipeline = p}, b, batch, height, width, out, err);
}

int decode_pass_new_taesd(Taesd *t, Backend *b, int batch, int height, int width, DecodePass **out, Error *err) {
    return open_pass(&(Decoder){.small = t}, b, batch, height, width, out, err);
}

void decode_pass_free(DecodePass *d) {
    if (!d) return;
    plan_free(d->plan);
    arena_free(d->arena);
    free(d->input);
    free(d->pixels);
    free(d);
}

size_t decode_pass_bytes(const DecodePass *d) { return plan_peak(d->plan); }

int decode_pass_bind(DecodePass *d, void *memory, Error *err) { return plan_bind(d->plan, memory, err); }

/* lrintf rounds half to even, as PIL and numpy do. NaN becomes 0 here; the caller has checked the latents. */
static uint8_t to_byte(float v) {
    float unit = v * 0.5f + 0.5f;
    if (!(unit > 0)) return 0;
    if (unit > 1) return 255;
    return (uint8_t)lrintf(unit * 255.0f);
}

static void store(const DecodePass *d, int count, uint8_t *rgb) {
    for (int i = 0; i < count; i++)
        for (int c = 0; c < 3; c++) {
            const float *from = d->pixels + ((size_t)i * 3 + (size_t)c) * d->plane;
            uint8_t *to = rgb + (size_t)i * 3 * d->plane + c;
            for (size_t at = 0; at < d->plane; at++) to[3 * at] = to_byte(from[at]);
        }
}

static void load(DecodePass *d, const float *latents, size_t n) {
    if (d->small)
        taesd_bound(d->small, latents, n, d->input);
    else
        memcpy(d->input, latents, n * sizeof(float));
}

int decode_pass_run(DecodePass *d, const float *latents, int count, uint8_t *rgb, Error *err) {
    for (int first = 0; first < count; first += d->batch) {
        int n = count - first < d->batch ? count - first : d->batch;
        load(d, latents + (size_t)first * d->latent_count, (size_t)n * d->latent_count);
        memset(d->input + (size_t)n * d->latent_count, 0, (size_t)(d->batch - n) * d->latent_count * sizeof(float));
        plan_write(d->plan, d->latents, d->input);
        TRY(plan_run(d->plan, err));
        plan_read(d->plan, d->image, d->pixels);
        store(d, n, rgb + (size_t)first * 3 * d->plane);
    }
    return 0;
}
