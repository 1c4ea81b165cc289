/* Decode pass: builds, plans and runs the VAE decoder, or a TAESD in its place. The third stage of the update, and the
 * end of sampling. */
#include "model/decode_pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan.h"
#include "model/decode_tiles.h"

struct DecodePass {
    const TaesdConfig *small; /* NULL: the VAE's decoder */
    Arena *arena;
    Plan *plan;
    Value latents, image;
    int batch;
    size_t latent_count, plane; /* C*h*w; H*W of the picture */
    float *input, *pixels;      /* [batch,C,h,w], [batch,3,H,W] */
    float *tile_pixels;         /* [3,t,t]: pictures are decoded in tiles, `pixels` collects them; NULL: whole */
    int height, width;          /* of the latents */
    size_t height_px, width_px;
    DecodeGrid grid;
};

/* What the latents go through; `small` NULL: the VAE of the pipeline. */
typedef struct Decoder {
    Pipeline *pipeline;
    Taesd *small;
} Decoder;

static Value append_vae(const VaeConfig *c, Build *b, Value latents) {
    return vae_decode(b, c, affine(b->g, latents, 1.0f / c->scaling_factor, c->shift_factor));
}

/* The graph takes one tile, whatever the picture's size. */
static int cut(DecodePass *d, int tile, int factor, int *height, int *width, Error *err) {
    TRY(decode_tiles_new(*height, *height < tile ? *height : tile, factor, &d->grid.rows, err));
    TRY(decode_tiles_new(*width, *width < tile ? *width : tile, factor, &d->grid.columns, err));
    d->batch = 1;
    *height = d->grid.rows.tile;
    *width = d->grid.columns.tile;
    d->tile_pixels = malloc(3 * (size_t)(*height * *width) * (size_t)(factor * factor) * sizeof(float));
    return d->tile_pixels ? 0 : fail(err, DRPO_E_MEMORY, "decoder: out of memory");
}

/* scale: pixels per latent */
static int allocate(DecodePass *d, int channels, size_t scale, Error *err) {
    d->latent_count = (size_t)channels * (size_t)(d->height * d->width);
    d->height_px = (size_t)d->height * scale;
    d->width_px = (size_t)d->width * scale;
    d->plane = d->height_px * d->width_px;
    d->input = malloc((size_t)d->batch * d->latent_count * sizeof(float));
    d->pixels = malloc((size_t)d->batch * 3 * d->plane * sizeof(float));
    return d->input && d->pixels ? 0 : fail(err, DRPO_E_MEMORY, "decoder: out of memory");
}

static int build(DecodePass *d, const Decoder *from, Backend *b, int height, int width, Error *err) {
    Pipeline *p = from->pipeline;
    int tile = d->small ? 0 : p->vae_tile;
    d->height = height;
    d->width = width;
    if (tile && (height > tile || width > tile)) TRY(cut(d, tile, p->factor, &height, &width, err));
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
    return allocate(d, channels, (size_t)(d->image->shape.dim[2] / height), err);
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
    free(d->tile_pixels);
    decode_tiles_free(&d->grid.rows);
    decode_tiles_free(&d->grid.columns);
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

void planes_to_rgb(const float *planes, size_t plane, uint8_t *rgb) {
    for (size_t c = 0; c < 3; c++)
        for (size_t at = 0; at < plane; at++) rgb[3 * at + c] = to_byte(planes[c * plane + at]);
}

static void store(const DecodePass *d, int count, uint8_t *rgb) {
    for (size_t i = 0; i < (size_t)count; i++)
        planes_to_rgb(d->pixels + i * 3 * d->plane, d->plane, rgb + i * 3 * d->plane);
}

static void load(DecodePass *d, const float *latents, size_t n) {
    if (d->small)
        taesd_bound(d->small, latents, n, d->input);
    else
        memcpy(d->input, latents, n * sizeof(float));
}

/* latents [C,h,w] at a tile -> the graph's input [C,t,t] */
static void load_tile(DecodePass *d, const float *latents, int row, int column) {
    const size_t h = (size_t)d->grid.rows.tile, w = (size_t)d->grid.columns.tile;
    const size_t height = (size_t)d->height, width = (size_t)d->width, channels = d->latent_count / (height * width);
    const size_t top = (size_t)d->grid.rows.start[row], left = (size_t)d->grid.columns.start[column];
    for (size_t c = 0; c < channels; c++)
        for (size_t y = 0; y < h; y++)
            memcpy(d->input + (c * h + y) * w, latents + (c * height + top + y) * width + left, w * sizeof(float));
}

static int run_tiles(DecodePass *d, const float *latents, Error *err) {
    memset(d->pixels, 0, 3 * d->plane * sizeof(float));
    for (int row = 0; row < d->grid.rows.count; row++)
        for (int column = 0; column < d->grid.columns.count; column++) {
            load_tile(d, latents, row, column);
            plan_write(d->plan, d->latents, d->input);
            TRY(plan_run(d->plan, err));
            plan_read(d->plan, d->image, d->tile_pixels);
            decode_tiles_add(&d->grid, row, column, d->tile_pixels, d->pixels, d->height_px, d->width_px);
        }
    return 0;
}

int decode_pass_run(DecodePass *d, const float *latents, int count, uint8_t *rgb, Error *err) {
    for (int i = 0; d->tile_pixels && i < count; i++) {
        TRY(run_tiles(d, latents + (size_t)i * d->latent_count, err));
        store(d, 1, rgb + (size_t)i * 3 * d->plane);
    }
    if (d->tile_pixels) return 0;
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
