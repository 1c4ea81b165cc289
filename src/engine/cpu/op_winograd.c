/* 3x3 convolutions of stride 1 and padding 1 by Winograd's F(4x4, 3x3) (kernels: simd/winograd.c), forward and with
 * respect to x, which is the same convolution with the weight's channels swapped and its taps rotated.
 *
 * A transformed weight takes four times its memory. Small frozen ones are transformed once and shared; large ones on
 * every run, slice by slice of output channels, straight from the file's values: that costs little beside the products
 * of many tiles, and no packed copy exists at all. Where there are few tiles, oneDNN's direct convolution is used
 * instead, and everywhere with CpuOptions.exact. A weight that is rounded (bf16.c) is kept as it is here, but where AMX
 * makes the direct convolution of bfloat16 the fastest. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

enum {
    LEAST_CHANNELS = 16, /* fewer: transforming tiles costs more than it saves */
    LEAST_SUM = 64,
    LEAST_TILES = 64,       /* for transforming a weight on every run */
    CACHED_BYTES = 4 << 20, /* transformed weights up to this size are kept */
    SLICE_BYTES = 16 << 20, /* transformed weights in use at a time */
    BLOCK_BYTES = 1 << 20,  /* of V and M per thread, where the channels allow it */
    LEAST_BLOCK = 96,
    MOST_BLOCK = 192, /* tiles */
    IN_CHUNK = 16,    /* input channels whose weights are transformed at a time */
    LINE = 16,        /* floats between the 36 places of a weight, which else would share the sets of the caches */
};

typedef struct Winograd {
    CpuBackend *b;
    const Param *weight;
    bool flip; /* gradient with respect to x */
    Act act;
    int bias, residual; /* inputs, -1: none */
    int64_t in, out, height, width, tiles, block, count;
    int64_t padded; /* output channels, rounded up to panels */
    int64_t slice;  /* output channels whose weights are transformed at a time: whole panels */
    bool cached;    /* transformed once, else on every run */
    Pack *pack;
} Winograd;

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t panel_of(const CpuBackend *b) { return (int64_t)b->simd.winograd_panel; }
static int64_t rows_at_once(const Winograd *s) { return min_i64(s->slice, round_up(s->out, s->b->simd.width)); }
static int64_t block_floats(const Winograd *s) { return round_up(36 * s->block * (s->in + rows_at_once(s)), 16); }
static int64_t scratch_floats(const Winograd *s) { return round_up(panel_of(s->b) * IN_CHUNK * 9, 16); }
static int64_t zero_floats(const Winograd *s) { return round_up(s->in, 16); }
static int64_t thread_floats(const Winograd *s) { return zero_floats(s) + block_floats(s) + scratch_floats(s); }
static int64_t slice_channels(const Winograd *s, int64_t first) { return min_i64(s->slice, s->padded - first); }
static int64_t place_floats(const Winograd *s, int64_t first) {
    return slice_channels(s, first) * s->in + (s->cached ? 0 : LINE);
}
static int64_t slice_floats(const Winograd *s) { return s->cached ? 0 : 36 * place_floats(s, 0); }

/* ---- weights ---- */

/* Transforms one panel's weights of one chunk of input channels. `u` is the slice that begins with channel `first`. */
static void transform_chunk(const Winograd *s, float *u, int64_t first, int64_t item, float *scratch) {
    int64_t panel = panel_of(s->b), chunks = (s->in + IN_CHUNK - 1) / IN_CHUNK, in0 = item % chunks * IN_CHUNK;
    int64_t out0 = first + item / chunks * panel, n_in = min_i64(IN_CHUNK, s->in - in0),
            n_out = min_i64(panel, s->out - out0);
    const Param *p = s->weight; /* [out,in,3,3], or [in,out,3,3] with flip */
    int64_t rows = s->flip ? n_in : n_out, run = 9 * (s->flip ? n_out : n_in),
            row_floats = 9 * (s->flip ? s->out : s->in);
    size_t start = (size_t)(s->flip ? in0 * row_floats + 9 * out0 : out0 * row_floats + 9 * in0);
    for (int64_t r = 0; r < rows; r++) /* copied also where it is float32: rows of a file lie far apart */
        cpu_read_weight(s->b, p, start + (size_t)(r * row_floats), (size_t)run, scratch + r * run);
    s->b->simd.winograd_weights(&(WinogradWeights){.u = u + (out0 - first) * s->in + in0 * panel,
                                                   .w = scratch,
                                                   .xi_stride = (size_t)place_floats(s, first),
                                                   .in = (size_t)n_in,
                                                   .out = (size_t)n_out,
                                                   .in_stride = (size_t)(s->flip ? run : 9),
                                                   .out_stride = (size_t)(s->flip ? 9 : run),
                                                   .flip = s->flip});
}

static int64_t transform_items(const Winograd *s, int64_t first) {
    return slice_channels(s, first) / panel_of(s->b) * ((s->in + IN_CHUNK - 1) / IN_CHUNK);
}

/* All slices, one after the other, for a weight that is kept. */
static int fill_cached(void *user, float *data, Error *err) {
    Winograd *s = user;
    float *scratch = aligned_alloc(64, aligned((size_t)scratch_floats(s) * sizeof(float)));
    if (!scratch) return fail(err, DRPO_E_MEMORY, "out of memory while a convolution is prepared");
    for (int64_t first = 0; first < s->padded; first += s->slice)
        for (int64_t i = 0; i < transform_items(s, first); i++)
            transform_chunk(s, data + 36 * s->in * first, first, i, scratch);
    free(scratch);
    return 0;
}

/* ---- running ---- */
static WinogradTask task_of(const Winograd *s, float *out, void *const *in, const float *u, int64_t first,
                            int64_t block, const float *zeros, float *scratch) {
    int64_t channels = slice_channels(s, first), first_tile = block * s->block;
    WinogradTask t = {.x = in[0], .u = u, .y = out, .v = scratch, .zeros = zeros};
    t.bias = s->bias >= 0 ? in[s->bias] : NULL;
    t.residual = s->residual >= 0 ? in[s->residual] : NULL;
    t.in = (size_t)s->in;
    t.out = (size_t)s->out;
    t.first_out = (size_t)first;
    t.slice = (size_t)min_i64(channels, round_up(s->out - first, s->b->simd.width));
    t.u_stride = (size_t)place_floats(s, first);
    t.height = (int)s->height;
    t.width = (int)s->width;
    t.tiles = (int)min_i64(s->block, s->tiles - first_tile);
    t.first_tile = first_tile;
    t.m = t.v + 36 * t.tiles * s->in;
    return t;
}

static int run(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Winograd *s = k->state;
    float *slice = workspace, *threads = slice + slice_floats(s);
    int64_t blocks = (s->tiles + s->block - 1) / s->block;
#pragma omp parallel num_threads(s->b->threads)
    {
        float *zeros = threads + omp_get_thread_num() * thread_floats(s), *scratch = zeros + zero_floats(s);
        memset(zeros, 0, (size_t)zero_floats(s) * sizeof(float));
        for (int64_t first = 0; first < s->padded; first += s->slice) {
            const float *u = s->cached ? floats(pack_data(s->pack)) + 36 * s->in * first : slice;
            if (!s->cached) {
#pragma omp for schedule(dynamic)
                for (int64_t i = 0; i < transform_items(s, first); i++)
                    transform_chunk(s, slice, first, i, scratch + block_floats(s));
            }
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < blocks; i++) {
                WinogradTask t = task_of(s, out, in, u, first, i, zeros, scratch);
                s->b->simd.winograd(&t);
            }
        }
        if (s->act != ACT_NONE) {
#pragma omp for schedule(static)
            for (int64_t at = 0; at < s->count; at += 4096)
                s->b->simd.act(s->act, floats(out) + at, floats(out) + at, (size_t)min_i64(4096, s->count - at));
        }
    }
    return 0;
}

/* ---- preparing ---- */
static void release(Kernel *k) {
    Winograd *s = k->state;
    pack_release(s->b, s->pack);
    free(s);
    k->state = NULL;
}

static bool fits(Shape w, const Attr *a) {
    Pad p = a->pad;
    return w.dim[2] == 3 && w.dim[3] == 3 && a->stride == 1 && p.top == 1 && p.left == 1 && p.bottom == 1 &&
           p.right == 1 && w.dim[0] >= LEAST_CHANNELS && w.dim[1] >= LEAST_CHANNELS && w.dim[0] + w.dim[1] >= LEAST_SUM;
}

static bool kept(const Winograd *s) {
    return !s->weight->trainable && 36 * s->in * s->padded * (int64_t)sizeof(float) <= CACHED_BYTES;
}

static void choose_sizes(Winograd *s, Shape y) {
    int64_t panel = panel_of(s->b), channels = SLICE_BYTES / (36 * s->in * (int64_t)sizeof(float)) / panel * panel;
    s->height = y.dim[2];
    s->width = y.dim[3];
    s->tiles = y.dim[0] * ((y.dim[2] + 3) / 4) * ((y.dim[3] + 3) / 4);
    s->count = shape_count(y);
    s->padded = round_up(s->out, panel);
    s->slice = min_i64(s->padded, channels < panel ? panel : channels);
    s->block = BLOCK_BYTES / (36 * (int64_t)sizeof(float) * (s->in + rows_at_once(s)));
    s->block = s->block < LEAST_BLOCK ? LEAST_BLOCK : min_i64(s->block, MOST_BLOCK);
    int64_t blocks = round_up((s->tiles + s->block - 1) / s->block, s->b->threads);
    s->block = (s->tiles + blocks - 1) / blocks; /* equal shares */
}

bool cpu_winograd_fits(const CpuBackend *b, const Node *n) {
    Shape w = n->in[1]->shape, y = n->shape;
    int64_t tiles = y.dim[0] * ((y.dim[2] + 3) / 4) * ((y.dim[3] + 3) / 4);
    int64_t bytes = 36 * (int64_t)sizeof(float) * w.dim[0] * w.dim[1];
    if (b->options.exact || (b->unit == BF16_TILES && cpu_rounds(b, n))) return false;
    return fits(w, &n->attr) && (tiles >= LEAST_TILES || (bytes <= CACHED_BYTES && !n->in[1]->param->trainable));
}

int cpu_winograd(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Winograd *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    k->release = release;
    k->run = run;
    Shape w = n->in[1]->shape;
    s->flip = n->op == OP_CONV2D_DX;
    s->weight = n->in[1]->param;
    s->in = w.dim[s->flip ? 0 : 1];
    s->out = w.dim[s->flip ? 1 : 0];
    s->act = n->attr.act;
    s->bias = !s->flip ? if_there(n, 2) : -1;
    s->residual = !s->flip ? if_there(n, 3) : -1;
    choose_sizes(s, n->shape);
    if (!s->weight->trainable) k->packed = 1u << 1;
    s->cached = kept(s);
    if (s->cached) {
        size_t bytes = (size_t)(36 * s->in * s->padded) * sizeof(float);
        TRY(pack_get_made(b, s->weight, s->flip ? PACK_WINOGRAD_DX : PACK_WINOGRAD, bytes, fill_cached, s, &s->pack,
                          err));
    }
    k->workspace = sizeof(float) * (size_t)(slice_floats(s) + b->threads * thread_floats(s));
    return 0;
}
