/* Bicubic resizing, one axis after the other: first along rows, then along columns.
 *
 * On 8-bit pictures both passes use weights of 22 fractional bits and are rounded and clipped to 8 bits each, which is
 * what makes the result Pillow's and not merely close to it. */
#include "format/resize.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "format/image.h"

/* ---- weights of one axis ---- */

/* Cubic convolution (Keys, 1981). */
static double cubic(double x, double a) {
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double triangle(double x) { return fmax(1 - fabs(x), 0); }

static void antialiased_row(const ResizeTaps *t, bool linear, int i) {
    const double scale = (double)t->in / t->out, wide = scale > 1 ? scale : 1;
    const double centre = (i + 0.5) * scale, support = (linear ? 1 : 2) * wide;
    int low = (int)(centre - support + 0.5), high = (int)(centre + support + 0.5);
    if (low < 0) low = 0;
    if (high > t->in) high = t->in;
    double *w = t->weight + (size_t)i * (size_t)t->most, sum = 0;
    for (int k = 0; k < high - low; k++) {
        const double x = (k + low - centre + 0.5) * (1 / wide);
        sum += w[k] = linear ? triangle(x) : cubic(x, -0.5);
    }
    for (int k = 0; k < high - low; k++) w[k] /= sum;
    t->first[i] = low;
    t->count[i] = high - low;
}

/* Taps beyond the border read the border's pixel: their weights are added to its own. */
static void plain_row(const ResizeTaps *t, int i) {
    const double source = (i + 0.5) * t->in / t->out - 0.5, base = floor(source), part = source - base;
    double *w = t->weight + (size_t)i * (size_t)t->most;
    int low = (int)base - 1, high = (int)base + 2;
    const int first = low < 0 ? 0 : low > t->in - 1 ? t->in - 1 : low;
    const int last = high < 0 ? 0 : high > t->in - 1 ? t->in - 1 : high;
    for (int j = low; j <= high; j++) {
        const int at = j < first ? first : j > last ? last : j;
        w[at - first] += cubic(j - base - part, -0.75);
    }
    t->first[i] = first;
    t->count[i] = last - first + 1;
}

int resize_taps_new(ResizeFilter filter, int in, int out, ResizeTaps *taps, Error *err) {
    *taps = (ResizeTaps){.in = in, .out = out};
    if (in < 1 || out < 1) return fail(err, DRPO_E_INTERNAL, "resize from %d to %d pixels: impossible size", in, out);
    if (in > IMAGE_MAX_SIDE || out > IMAGE_MAX_SIDE)
        return fail(err, DRPO_E_INPUT, "resize from %d to %d pixels: a picture's sides are %d pixels at most", in, out,
                    IMAGE_MAX_SIDE);
    const double scale = (double)in / out;
    taps->most = filter == RESIZE_PLAIN ? 4 : (int)ceil(2 * (scale > 1 ? scale : 1)) * 2 + 1;
    taps->first = calloc((size_t)out, sizeof *taps->first);
    taps->count = calloc((size_t)out, sizeof *taps->count);
    taps->weight = calloc((size_t)out * (size_t)taps->most, sizeof *taps->weight);
    if (!taps->first || !taps->count || !taps->weight) {
        resize_taps_free(taps);
        return fail(err, DRPO_E_MEMORY, "out of memory for a resize");
    }
    for (int i = 0; i < out; i++) {
        if (filter == RESIZE_PLAIN)
            plain_row(taps, i);
        else
            antialiased_row(taps, filter == RESIZE_LINEAR, i);
    }
    return 0;
}

void resize_taps_free(ResizeTaps *taps) {
    free(taps->first);
    free(taps->count);
    free(taps->weight);
    *taps = (ResizeTaps){0};
}

/* ---- 8-bit pictures ---- */

enum { FRACTION = 22 };

static int32_t *fixed_point(const ResizeTaps *t) {
    const size_t n = (size_t)t->out * (size_t)t->most;
    int32_t *fixed = malloc(n * sizeof *fixed);
    for (size_t i = 0; fixed && i < n; i++) {
        const double scaled = t->weight[i] * (1 << FRACTION);
        fixed[i] = (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    }
    return fixed;
}

static uint8_t to_byte(int32_t sum) {
    const int32_t v = sum >> FRACTION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* [rows,t->in,3] -> [rows,t->out,3] */
static void along_rows(const ResizeTaps *t, const int32_t *weight, const uint8_t *in, int rows, uint8_t *out) {
    for (int y = 0; y < rows; y++, in += (size_t)t->in * 3)
        for (int i = 0; i < t->out; i++, out += 3) {
            const int32_t *w = weight + (size_t)i * (size_t)t->most;
            const uint8_t *p = in + (size_t)t->first[i] * 3;
            int32_t r = 1 << (FRACTION - 1), g = r, b = r;
            for (int k = 0; k < t->count[i]; k++, p += 3) {
                r += w[k] * p[0];
                g += w[k] * p[1];
                b += w[k] * p[2];
            }
            out[0] = to_byte(r), out[1] = to_byte(g), out[2] = to_byte(b);
        }
}

/* [t->in,row] -> [t->out,row]; sum [row] */
static void along_columns(const ResizeTaps *t, const int32_t *weight, const uint8_t *in, size_t row, int32_t *sum,
                          uint8_t *out) {
    for (int i = 0; i < t->out; i++, out += row) {
        for (size_t x = 0; x < row; x++) sum[x] = 1 << (FRACTION - 1);
        for (int k = 0; k < t->count[i]; k++) {
            const int32_t w = weight[(size_t)i * (size_t)t->most + (size_t)k];
            const uint8_t *p = in + (size_t)(t->first[i] + k) * row;
            for (size_t x = 0; x < row; x++) sum[x] += w * p[x];
        }
        for (size_t x = 0; x < row; x++) out[x] = to_byte(sum[x]);
    }
}

typedef struct Work {
    Resize r;
    int32_t *weight_x, *weight_y, *sum;
    uint8_t *between; /* [height,out_width,3] */
} Work;

static int resize_with(Work *w, const uint8_t *in, uint8_t *out, Error *err) {
    const ResizeTaps *x = &w->r.x, *y = &w->r.y;
    const size_t row = (size_t)x->out * 3;
    w->weight_x = fixed_point(x);
    w->weight_y = fixed_point(y);
    w->sum = malloc(row * sizeof *w->sum);
    w->between = malloc((size_t)y->in * row);
    if (!w->weight_x || !w->weight_y || !w->sum || !w->between) return fail(err, DRPO_E_MEMORY, "no memory to resize");
    const bool rows = x->in != x->out, columns = y->in != y->out; /* an axis that keeps its size is not filtered */
    const uint8_t *between = rows ? w->between : in;
    if (rows) along_rows(x, w->weight_x, in, y->in, columns ? w->between : out);
    if (columns) along_columns(y, w->weight_y, between, row, w->sum, out);
    if (!rows && !columns) memcpy(out, in, (size_t)y->in * row);
    return 0;
}

int resize_rgb(const uint8_t *in, int width, int height, uint8_t *out, int out_width, int out_height, Error *err) {
    Work w = {0};
    TRY(resize_new(RESIZE_PIL, width, height, out_width, out_height, &w.r, err));
    const int code = resize_with(&w, in, out, err);
    free(w.weight_x);
    free(w.weight_y);
    free(w.sum);
    free(w.between);
    resize_free(&w.r);
    return code;
}

/* ---- float planes ---- */

int resize_new(ResizeFilter filter, int width, int height, int out_width, int out_height, Resize *r, Error *err) {
    *r = (Resize){0};
    int code = resize_taps_new(filter, width, out_width, &r->x, err);
    if (code == 0) code = resize_taps_new(filter, height, out_height, &r->y, err);
    if (code < 0) resize_free(r);
    return code;
}

void resize_free(Resize *r) {
    resize_taps_free(&r->x);
    resize_taps_free(&r->y);
}

static float *plane_between(const Resize *r, Error *err) {
    float *between = malloc((size_t)r->y.in * (size_t)r->x.out * sizeof *between);
    if (!between) fail(err, DRPO_E_MEMORY, "no memory to resize");
    return between;
}

int resize_planes(const Resize *r, const float *in, int planes, float *out, Error *err) {
    const ResizeTaps *tx = &r->x, *ty = &r->y;
    const int width = tx->out;
    float *between = plane_between(r, err); /* [in height,out width] */
    if (!between) return DRPO_E_MEMORY;
    for (int p = 0; p < planes; p++) {
        for (int y = 0; y < ty->in; y++, in += tx->in)
            for (int i = 0; i < width; i++) {
                double sum = 0;
                for (int k = 0; k < tx->count[i]; k++) sum += tx->weight[i * tx->most + k] * in[tx->first[i] + k];
                between[y * width + i] = (float)sum;
            }
        for (int i = 0; i < ty->out; i++, out += width) {
            memset(out, 0, (size_t)width * sizeof *out);
            for (int k = 0; k < ty->count[i]; k++) {
                const float w = (float)ty->weight[i * ty->most + k], *row = between + (ty->first[i] + k) * width;
                for (int x = 0; x < width; x++) out[x] += w * row[x];
            }
        }
    }
    free(between);
    return 0;
}

int resize_planes_adjoint(const Resize *r, const float *d_out, int planes, float *d_in, Error *err) {
    const ResizeTaps *tx = &r->x, *ty = &r->y;
    const int width = tx->out;
    float *between = plane_between(r, err);
    if (!between) return DRPO_E_MEMORY;
    memset(d_in, 0, (size_t)planes * (size_t)ty->in * (size_t)tx->in * sizeof *d_in);
    for (int p = 0; p < planes; p++) {
        memset(between, 0, (size_t)ty->in * (size_t)width * sizeof *between);
        for (int i = 0; i < ty->out; i++, d_out += width)
            for (int k = 0; k < ty->count[i]; k++) {
                const float w = (float)ty->weight[i * ty->most + k];
                float *row = between + (ty->first[i] + k) * width;
                for (int x = 0; x < width; x++) row[x] += w * d_out[x];
            }
        for (int y = 0; y < ty->in; y++, d_in += tx->in)
            for (int i = 0; i < width; i++) {
                const float d = between[y * width + i];
                for (int k = 0; k < tx->count[i]; k++)
                    d_in[tx->first[i] + k] += (float)tx->weight[i * tx->most + k] * d;
            }
    }
    free(between);
    return 0;
}
