/* Convolutions with few pixels and a large frozen weight, as a product with columns:
 *
 *     CONV2D     y [pixels,out] = act(C w^T + bias + residual)     C [pixels, in*kh*kw]: what lies under each pixel
 *     CONV2D_DX  C = dy w, then every element of C is added to the pixel of dx it was taken from
 *
 * w [out, in*kh*kw] is the file's own order, so both directions read it where it lies (panel.c). Such are those of a
 * published UNet that halve its resolution, and with CpuOptions.exact all of the lowest ones. */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

enum { LEAST_WEIGHTS = 1 << 20, MOST_TAPS = 32, COLUMN_BYTES = 32 << 20, CHANNELS = 16 };

typedef struct Columns {
    CpuBackend *b;
    PanelProduct *product;
    int64_t in, out, height, width; /* of x */
    int64_t rows, columns, pixels;  /* of y; pixels: of all images */
    int64_t block;                  /* pixels at a time */
    int kh, kw, stride;
    Pad pad;
    int bias, residual; /* inputs, -1: none */
} Columns;

static int64_t taps(const Columns *s) { return (int64_t)s->kh * s->kw; }

/* ---- forward ---- */

/* The pixels of x under pixel `at` of y; NULL outside. */
static void sources(const Columns *s, const float *x, int64_t at, const float *from[MOST_TAPS]) {
    const int64_t image = at / (s->rows * s->columns), place = at % (s->rows * s->columns);
    const int64_t top = place / s->columns * s->stride - s->pad.top,
                  left = place % s->columns * s->stride - s->pad.left;
    for (int i = 0; i < s->kh; i++)
        for (int j = 0; j < s->kw; j++) {
            const int64_t r = top + i, c = left + j;
            const bool inside = r >= 0 && r < s->height && c >= 0 && c < s->width;
            from[i * s->kw + j] = inside ? x + ((image * s->height + r) * s->width + c) * s->in : NULL;
        }
}

/* A few channels at a time, so that the lines written to stay in the first-level cache. */
static void write_row(const Columns *s, const float *const *from, float *row) {
    const int64_t n = taps(s);
    for (int64_t c = 0; c < s->in; c += CHANNELS) {
        const int64_t end = min_i64(c + CHANNELS, s->in);
        for (int64_t t = 0; t < n; t++) {
            if (from[t])
                for (int64_t i = c; i < end; i++) row[i * n + t] = from[t][i];
            else
                for (int64_t i = c; i < end; i++) row[i * n + t] = 0;
        }
    }
}

static void gather(const Columns *s, const float *x, int64_t first, float *columns) {
#pragma omp parallel for num_threads(s->b->threads) schedule(static)
    for (int64_t p = 0; p < s->block; p++) {
        const float *from[MOST_TAPS];
        sources(s, x, first + p, from);
        write_row(s, from, columns + p * s->in * taps(s));
    }
}

static size_t column_bytes(const Columns *s) { return aligned((size_t)(s->block * s->in * taps(s)) * sizeof(float)); }

static int run_forward(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Columns *s = k->state;
    float *columns = workspace;
    char *rest = (char *)workspace + column_bytes(s);
    cpu_enter(s->b);
    if (s->residual >= 0 && in[s->residual] != out)
        cpu_copy(s->b, out, in[s->residual], (size_t)(s->pixels * s->out) * sizeof(float));
    const float *bias = s->bias >= 0 ? in[s->bias] : NULL;
    for (int64_t at = 0; at < s->pixels; at += s->block) {
        gather(s, in[0], at, columns);
        for (int64_t first = 0; first < s->out; first += panel_product_width(s->product))
            TRY(panel_product_run(s->product, first, floats(out) + at * s->out + first, columns, bias, rest));
    }
    return 0;
}

/* ---- gradient ---- */

/* dx [channels] of one pixel: the sum over the taps through which pixels of y looked at it. `c`: this panel's columns,
 * whole channels. */
static void collect(const Columns *s, int64_t at, const float *c, int64_t channels, float *dx) {
    const int64_t image = at / (s->height * s->width), place = at % (s->height * s->width), n = taps(s);
    memset(dx, 0, (size_t)channels * sizeof *dx);
    for (int t = 0; t < n; t++) {
        const int64_t r = place / s->width + s->pad.top - t / s->kw, q = place % s->width + s->pad.left - t % s->kw;
        if (r < 0 || q < 0 || r % s->stride || q % s->stride) continue;
        if (r / s->stride >= s->rows || q / s->stride >= s->columns) continue;
        const int64_t pixel = (image * s->rows + r / s->stride) * s->columns + q / s->stride;
        const float *from = c + pixel * channels * n + t;
        for (int64_t i = 0; i < channels; i++) dx[i] += from[i * n];
    }
}

static int run_gradient(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Columns *s = k->state;
    const int64_t width = panel_product_width(s->product), all = s->in * taps(s);
    const int64_t pixels = s->pixels / (s->rows * s->columns) * s->height * s->width; /* of x */
    float *columns = workspace;
    char *rest = (char *)workspace + aligned((size_t)(s->pixels * width) * sizeof(float));
    cpu_enter(s->b);
    for (int64_t first = 0; first < all; first += width) {
        TRY(panel_product_run(s->product, first, columns, in[0], NULL, rest));
        const int64_t channels = min_i64(width, all - first) / taps(s);
        float *dx = floats(out) + first / taps(s);
#pragma omp parallel for num_threads(s->b->threads) schedule(static)
        for (int64_t p = 0; p < pixels; p++) collect(s, p, columns, channels, dx + p * s->in);
    }
    return 0;
}

/* ---- preparing ---- */

static void release(Kernel *k) {
    Columns *s = k->state;
    panel_product_free(s->product);
    free(s);
    k->state = NULL;
}

bool cpu_columns_fit(const Node *n) {
    const Param *w = n->in[1]->param;
    if (n->in[1]->op != OP_PARAM || w->trainable || shape_count(w->shape) < LEAST_WEIGHTS) return false;
    return w->shape.dim[2] * w->shape.dim[3] <= MOST_TAPS && (w->dtype == DT_F32 ? cpu_weight_in_place(w) : w->stored);
}

/* The largest divisor of `pixels` whose columns fit. */
static int64_t block_of(int64_t pixels, int64_t row_floats) {
    const int64_t most = COLUMN_BYTES / (row_floats * (int64_t)sizeof(float));
    int64_t parts = 1;
    while (parts < pixels && (pixels % parts || pixels / parts > most)) parts++;
    return pixels / parts;
}

static void describe(Columns *s, const Node *n, bool forward) {
    const Shape w = n->in[1]->shape, x = forward ? n->in[0]->shape : n->shape, y = forward ? n->shape : n->in[0]->shape;
    s->out = w.dim[0], s->in = w.dim[1], s->kh = (int)w.dim[2], s->kw = (int)w.dim[3];
    s->height = x.dim[2], s->width = x.dim[3];
    s->rows = y.dim[2], s->columns = y.dim[3], s->pixels = y.dim[0] * y.dim[2] * y.dim[3];
    s->stride = n->attr.stride, s->pad = n->attr.pad;
    s->bias = forward ? if_there(n, 2) : -1;
    s->residual = forward ? if_there(n, 3) : -1;
    s->block = forward ? block_of(s->pixels, s->in * taps(s)) : s->pixels;
}

int cpu_columns(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Columns *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    const bool forward = n->op == OP_CONV2D;
    k->run = forward ? run_forward : run_gradient;
    k->release = release;
    k->packed = 1u << 1;
    describe(s, n, forward);
    const PanelSpec spec = {.w = n->in[1]->param,
                            .rows = s->out,
                            .columns = s->in * taps(s),
                            .m = s->block,
                            .transposed = forward,
                            .unit = forward ? 1 : taps(s),
                            .y_stride = forward ? s->out : 0,
                            .alpha = 1,
                            .act = forward ? n->attr.act : ACT_NONE,
                            .bias = s->bias >= 0,
                            .residual = s->residual >= 0};
    TRY(panel_product_new(b, &spec, &s->product, err));
    const size_t own =
        forward ? column_bytes(s) : aligned((size_t)(s->pixels * panel_product_width(s->product)) * sizeof(float));
    k->workspace = own + panel_product_workspace(s->product);
    return 0;
}
