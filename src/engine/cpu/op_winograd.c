/* 3x3 convolutions of stride 1 and padding 1 by Winograd's F(4x4, 3x3) (kernels: simd/winograd.c), forward and with
 * respect to x, which is the same convolution with the weight's channels swapped and its taps rotated.
 *
 * A transformed weight takes four times its memory. Small frozen ones are transformed once and shared. Large ones are
 * transformed on every run, straight from the file's values, so that no packed copy exists at all: of many tiles slice
 * by slice of output channels, of few tiles a panel of output channels and a few input channels at a time, which the
 * second-level cache holds until all tiles have been multiplied. The sums are the same to the last bit. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

enum {
    LEAST_CHANNELS = 16, /* fewer: transforming tiles costs more than it saves */
    LEAST_SUM = 64,
    LEAST_TILES = 64,       /* for a trainable weight */
    FEW_TILES = 128,        /* up to so many, weights are transformed for the second-level cache */
    FEW_BYTES = 24 << 20,   /* of transformed tiles then */
    CACHED_BYTES = 4 << 20, /* transformed weights up to this size are kept */
    SLICE_BYTES = 16 << 20, /* transformed weights in use at a time */
    BLOCK_BYTES = 1 << 20,  /* of V and M per thread, where the channels allow it */
    LEAST_BLOCK = 96,
    MOST_BLOCK = 192, /* tiles */
    IN_CHUNK = 32,    /* input channels whose weights are transformed at a time */
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
    bool few;       /* tiles */
    bool doubled;   /* x is the result of UPSAMPLE2X, so that 11 of the 36 products are zero */
    Pack *pack;
} Winograd;

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t panel_of(const CpuBackend *b) { return (int64_t)b->simd.winograd_panel; }
static int64_t rows_at_once(const Winograd *s) { return min_i64(s->slice, round_up(s->out, s->b->simd.width)); }
static int64_t block_floats(const Winograd *s) { return round_up(36 * s->block * (s->in + rows_at_once(s)), 16); }
/* the taps of a panel, and what reading whole vectors of them goes beyond */
static int64_t scratch_floats(const Winograd *s) { return round_up(panel_of(s->b) * IN_CHUNK * 9 + 16, 16); }
static int64_t zero_floats(const Winograd *s) { return round_up(s->in, 16); }
static int64_t slice_channels(const Winograd *s, int64_t first) { return min_i64(s->slice, s->padded - first); }
static int64_t place_floats(const Winograd *s, int64_t first) {
    return slice_channels(s, first) * s->in + (s->cached ? 0 : LINE);
}
static int64_t chunk_place_floats(const Winograd *s) { return panel_of(s->b) * IN_CHUNK + LINE; }

/* What threads share: transformed weights of a slice, or, with few tiles, all transformed tiles. */
static int64_t shared_floats(const Winograd *s) {
    return s->few ? round_up(36 * s->block * s->in, 16) : s->cached ? 0 : 36 * place_floats(s, 0);
}

/* What each thread has: zeros; V and M of a block, or, with few tiles, M and the transformed weights of a panel. */
static int64_t work_floats(const Winograd *s) {
    return s->few ? 36 * (s->block * panel_of(s->b) + chunk_place_floats(s)) : block_floats(s);
}
static int64_t thread_floats(const Winograd *s) { return zero_floats(s) + work_floats(s) + scratch_floats(s); }

/* ---- weights ---- */

/* Transforms the weights of one panel, which begins with channel out0, and of the input channels [in0, in0 + n_in). */
static void transform_chunk(const Winograd *s, int64_t out0, int64_t in0, int64_t n_in, float *u, int64_t xi_stride,
                            float *scratch) {
    int64_t n_out = min_i64(panel_of(s->b), s->out - out0);
    const Param *p = s->weight; /* [out,in,3,3], or [in,out,3,3] with flip */
    int64_t rows = s->flip ? n_in : n_out, run = 9 * (s->flip ? n_out : n_in),
            row_floats = 9 * (s->flip ? s->out : s->in);
    size_t start = (size_t)(s->flip ? in0 * row_floats + 9 * out0 : out0 * row_floats + 9 * in0);
    for (int64_t r = 0; r < rows; r++) /* copied also where it is float32: rows of a file lie far apart */
        cpu_read_weight(s->b, p, start + (size_t)(r * row_floats), (size_t)run, scratch + r * run);
    s->b->simd.winograd_weights(&(WinogradWeights){.u = u,
                                                   .w = scratch,
                                                   .xi_stride = (size_t)xi_stride,
                                                   .in = (size_t)n_in,
                                                   .out = (size_t)n_out,
                                                   .in_stride = (size_t)(s->flip ? run : 9),
                                                   .out_stride = (size_t)(s->flip ? 9 : run),
                                                   .flip = s->flip});
}

static int64_t chunks(const Winograd *s) { return (s->in + IN_CHUNK - 1) / IN_CHUNK; }

static int64_t transform_items(const Winograd *s, int64_t first) {
    return slice_channels(s, first) / panel_of(s->b) * chunks(s);
}

/* Part `item` of the slice that begins with channel `first`. */
static void transform_item(const Winograd *s, float *slice, int64_t first, int64_t item, float *scratch) {
    int64_t panel = panel_of(s->b), in0 = item % chunks(s) * IN_CHUNK, out0 = item / chunks(s) * panel;
    transform_chunk(s, first + out0, in0, min_i64(IN_CHUNK, s->in - in0), slice + out0 * s->in + in0 * panel,
                    place_floats(s, first), scratch);
}

/* All slices, one after the other, for a weight that is kept. */
static int fill_cached(void *user, float *data, Error *err) {
    Winograd *s = user;
    float *scratch = aligned_alloc(64, aligned((size_t)scratch_floats(s) * sizeof(float)));
    if (!scratch) return fail(err, DRPO_E_MEMORY, "out of memory while a convolution is prepared");
    for (int64_t first = 0; first < s->padded; first += s->slice)
        for (int64_t i = 0; i < transform_items(s, first); i++)
            transform_item(s, data + 36 * s->in * first, first, i, scratch);
    free(scratch);
    return 0;
}

/* ---- running ---- */

/* All that one run's tasks have in common, and block `block` of the tiles. */
static WinogradTask task_of(const Winograd *s, float *out, void *const *in, int64_t block, const float *zeros) {
    WinogradTask t = {.x = in[0], .y = out, .zeros = zeros, .first_tile = block * s->block};
    t.bias = s->bias >= 0 ? in[s->bias] : NULL;
    t.residual = s->residual >= 0 ? in[s->residual] : NULL;
    t.in = t.part = (size_t)s->in;
    t.out = (size_t)s->out;
    t.height = (int)s->height;
    t.width = (int)s->width;
    t.tiles = (int)min_i64(s->block, s->tiles - t.first_tile);
    t.doubled = s->doubled;
    return t;
}

static size_t slice_of(const Winograd *s, int64_t first, int64_t channels) {
    return (size_t)min_i64(channels, round_up(s->out - first, s->b->simd.width));
}

static int64_t blocks_of(const Winograd *s) { return (s->tiles + s->block - 1) / s->block; }

/* Weights slice by slice, tiles block by block. */
static void run_slices(const Winograd *s, float *out, void *const *in, float *shared, const float *zeros, float *work,
                       float *scratch) {
    for (int64_t first = 0; first < s->padded; first += s->slice) {
        const float *u = s->cached ? floats(pack_data(s->pack)) + 36 * s->in * first : shared;
        if (!s->cached) {
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < transform_items(s, first); i++) transform_item(s, shared, first, i, scratch);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < blocks_of(s); i++) {
            WinogradTask t = task_of(s, out, in, i, zeros);
            t.first_out = (size_t)first;
            t.slice = slice_of(s, first, slice_channels(s, first));
            t.u = u;
            t.u_stride = (size_t)place_floats(s, first);
            t.v = work;
            t.m = work + 36 * t.tiles * s->in;
            s->b->simd.winograd_input(&t);
            s->b->simd.winograd_products(&t);
            s->b->simd.winograd_output(&t);
        }
    }
}

/* The transformed tiles of one chunk of input channels lie together: [chunks][36, tiles, IN_CHUNK]. */
static void set_chunk(const Winograd *s, WinogradTask *t, float *v, int64_t chunk) {
    t->first_in = (size_t)(chunk * IN_CHUNK);
    t->part = (size_t)min_i64(IN_CHUNK, s->in - chunk * IN_CHUNK);
    t->v = v + 36 * t->tiles * chunk * IN_CHUNK;
}

/* One panel of output channels: its weights are transformed a chunk at a time and meet all tiles of the block. */
static void run_panel(const Winograd *s, WinogradTask *t, float *v, int64_t first, float *work, float *scratch) {
    float *u = work + 36 * s->block * panel_of(s->b);
    t->first_out = (size_t)first;
    t->slice = slice_of(s, first, panel_of(s->b));
    t->u = u;
    t->u_stride = (size_t)chunk_place_floats(s);
    t->m = work;
    for (int64_t c = 0; c < chunks(s); c++) {
        set_chunk(s, t, v, c);
        transform_chunk(s, first, c * IN_CHUNK, (int64_t)t->part, u, (int64_t)t->u_stride, scratch);
        s->b->simd.winograd_products(t);
    }
    s->b->simd.winograd_output(t);
}

static void run_few(const Winograd *s, float *out, void *const *in, float *shared, const float *zeros, float *work,
                    float *scratch) {
    for (int64_t block = 0; block < blocks_of(s); block++) {
        WinogradTask t = task_of(s, out, in, block, zeros);
#pragma omp for schedule(static)
        for (int64_t c = 0; c < chunks(s); c++) {
            set_chunk(s, &t, shared, c);
            s->b->simd.winograd_input(&t);
        }
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < s->padded; first += panel_of(s->b))
            run_panel(s, &t, shared, first, work, scratch);
    }
}

static int run(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Winograd *s = k->state;
    float *shared = workspace, *threads = shared + shared_floats(s);
#pragma omp parallel num_threads(s->b->threads)
    {
        float *zeros = threads + omp_get_thread_num() * thread_floats(s), *work = zeros + zero_floats(s);
        memset(zeros, 0, (size_t)zero_floats(s) * sizeof(float));
        if (s->few)
            run_few(s, out, in, shared, zeros, work, work + work_floats(s));
        else
            run_slices(s, out, in, shared, zeros, work, work + work_floats(s));
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
    s->cached = kept(s);
    s->few = !s->cached && s->tiles <= FEW_TILES;
    s->block = BLOCK_BYTES / (36 * (int64_t)sizeof(float) * (s->in + rows_at_once(s)));
    s->block = s->block < LEAST_BLOCK ? LEAST_BLOCK : min_i64(s->block, MOST_BLOCK);
    if (s->few) s->block = FEW_BYTES / (36 * s->in * (int64_t)sizeof(float)) + 1;
    int64_t blocks = blocks_of(s);
    if (!s->few) blocks = round_up(blocks, s->b->threads);
    s->block = (s->tiles + blocks - 1) / blocks; /* equal shares */
}

bool cpu_winograd_fits(const CpuBackend *b, const Node *n) {
    if (b->options.exact || (b->unit == BF16_TILES && cpu_rounds(b, n))) return false;
    Shape y = n->shape;
    int64_t tiles = y.dim[0] * ((y.dim[2] + 3) / 4) * ((y.dim[3] + 3) / 4);
    return fits(n->in[1]->shape, &n->attr) && (tiles >= LEAST_TILES || !n->in[1]->param->trainable);
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
    s->doubled = !s->flip && n->in[0]->op == OP_UPSAMPLE2X;
    s->bias = !s->flip ? if_there(n, 2) : -1;
    s->residual = !s->flip ? if_there(n, 3) : -1;
    choose_sizes(s, n->shape);
    if (!s->weight->trainable) k->packed = 1u << 1;
    if (s->cached) {
        size_t bytes = (size_t)(36 * s->in * s->padded) * sizeof(float);
        TRY(pack_get_made(b, s->weight, s->flip ? PACK_WINOGRAD_DX : PACK_WINOGRAD, bytes, fill_cached, s, &s->pack,
                          err));
    }
    k->workspace = sizeof(float) * (size_t)(shared_floats(s) + b->threads * thread_floats(s));
    return 0;
}
