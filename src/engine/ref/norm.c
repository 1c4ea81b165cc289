/* Reference kernels: group norm and layer norm, y = act(h w + b) with h = (x - mean) / sqrt(var + eps), and their
 * gradients.
 *
 * A Group is the set of values that share statistics: [channels of the group][positions]. Layer norm is the case of one
 * position per row, so that both norms use the same sums. */
#include "engine/ref/ref.h"

#include <math.h>

typedef struct Group {
    const double *x, *dy, *w, *b; /* w and b from the group's first channel; dy, w, b may be NULL */
    int64_t channels, positions;
    int64_t step; /* elements from one position to the next; channels are neighbours */
    Act act;
    double mean, scale; /* scale = 1 / sqrt(var + eps) */
} Group;

static void find_statistics(Group *g, double eps) {
    double count = (double)(g->channels * g->positions), mean = 0, var = 0;
    for (int64_t p = 0; p < g->positions; p++)
        for (int64_t c = 0; c < g->channels; c++) mean += g->x[p * g->step + c] / count;
    for (int64_t p = 0; p < g->positions; p++)
        for (int64_t c = 0; c < g->channels; c++) var += pow(g->x[p * g->step + c] - mean, 2) / count;
    g->mean = mean;
    g->scale = 1 / sqrt(var + eps);
}

static double normalized(const Group *g, int64_t p, int64_t c) { return (g->x[p * g->step + c] - g->mean) * g->scale; }

/* d(loss)/d(h w + b): dy through the fused activation, whose input is recomputed. */
static double before_activation(const Group *g, int64_t p, int64_t c) {
    double dy = g->dy[p * g->step + c];
    if (g->act == ACT_NONE) return dy;
    return dy * ref_activation_slope(g->act, normalized(g, p, c) * g->w[c] + g->b[c]);
}

static void group_forward(const Group *g, double *y) {
    for (int64_t p = 0; p < g->positions; p++)
        for (int64_t c = 0; c < g->channels; c++)
            y[p * g->step + c] = ref_activation(g->act, normalized(g, p, c) * g->w[c] + g->b[c]);
}

static void group_dx(const Group *g, double *dx) {
    double count = (double)(g->channels * g->positions), mean_e = 0, mean_eh = 0;
    for (int64_t p = 0; p < g->positions; p++) {
        for (int64_t c = 0; c < g->channels; c++) {
            double e = before_activation(g, p, c) * g->w[c];
            mean_e += e / count;
            mean_eh += e * normalized(g, p, c) / count;
        }
    }
    for (int64_t p = 0; p < g->positions; p++) {
        for (int64_t c = 0; c < g->channels; c++) {
            double e = before_activation(g, p, c) * g->w[c];
            dx[p * g->step + c] = (e - mean_e - normalized(g, p, c) * mean_eh) * g->scale;
        }
    }
}

static void group_dwb(const Group *g, double *dw, double *db) {
    for (int64_t p = 0; p < g->positions; p++) {
        for (int64_t c = 0; c < g->channels; c++) {
            double e = before_activation(g, p, c);
            dw[c] += e * normalized(g, p, c);
            db[c] += e;
        }
    }
}

/* Group (image, index) of x [N,C,H,W], stored [N,H,W,C]; *at is where it begins. */
static Group image_group(const Node *n, double *const *in, int64_t image, int64_t index, int64_t *at) {
    Shape s = n->in[0]->shape;
    int64_t channels = s.dim[1] / n->attr.groups, positions = s.dim[2] * s.dim[3], first = index * channels;
    *at = image * positions * s.dim[1] + first;
    Group g = {.x = in[0] + *at, .dy = in[3] ? in[3] + *at : NULL, .w = in[1] + first, .b = in[2] + first};
    g.channels = channels;
    g.positions = positions;
    g.step = s.dim[1];
    g.act = n->attr.act;
    find_statistics(&g, (double)n->attr.eps);
    return g;
}

static Group row_group(const Node *n, const double *x, const double *dy, const double *w, const double *b,
                       int64_t row) {
    Shape s = n->in[0]->shape;
    int64_t width = s.dim[s.rank - 1];
    Group g = {.x = x + row * width, .dy = dy ? dy + row * width : NULL, .w = w, .b = b};
    g.channels = g.step = width;
    g.positions = 1;
    find_statistics(&g, (double)n->attr.eps);
    return g;
}

static int64_t row_count(const Node *n) {
    Shape s = n->in[0]->shape;
    return shape_count(s) / s.dim[s.rank - 1];
}

void ref_group_norm(const Node *n, double *out, double *const *in) {
    for (int64_t image = 0; image < n->shape.dim[0]; image++) {
        for (int64_t index = 0; index < n->attr.groups; index++) {
            int64_t at;
            Group g = image_group(n, in, image, index, &at);
            group_forward(&g, out + at);
        }
    }
}

void ref_group_norm_dx(const Node *n, double *out, double *const *in) {
    for (int64_t image = 0; image < n->shape.dim[0]; image++) {
        for (int64_t index = 0; index < n->attr.groups; index++) {
            int64_t at;
            Group g = image_group(n, in, image, index, &at);
            group_dx(&g, out + at);
        }
    }
}

void ref_group_norm_dwb(const Node *n, double *out, double *const *in) {
    Shape s = n->in[0]->shape;
    for (int64_t i = 0; i < 2 * s.dim[1]; i++) out[i] = 0;
    for (int64_t image = 0; image < s.dim[0]; image++) {
        for (int64_t index = 0; index < n->attr.groups; index++) {
            int64_t at, first = index * s.dim[1] / n->attr.groups;
            Group g = image_group(n, in, image, index, &at);
            group_dwb(&g, out + first, out + s.dim[1] + first);
        }
    }
}

void ref_layer_norm(const Node *n, double *out, double *const *in) {
    for (int64_t row = 0; row < row_count(n); row++) {
        Group g = row_group(n, in[0], NULL, in[1], in[2], row);
        group_forward(&g, out + row * g.channels);
    }
}

void ref_layer_norm_dx(const Node *n, double *out, double *const *in) {
    for (int64_t row = 0; row < row_count(n); row++) {
        Group g = row_group(n, in[0], in[2], in[1], NULL, row);
        group_dx(&g, out + row * g.channels);
    }
}

void ref_layer_norm_dwb(const Node *n, double *out, double *const *in) {
    int64_t width = n->shape.dim[0] / 2;
    for (int64_t i = 0; i < 2 * width; i++) out[i] = 0;
    for (int64_t row = 0; row < row_count(n); row++) {
        Group g = row_group(n, in[0], in[1], NULL, NULL, row);
        group_dwb(&g, out, out + width);
    }
}

/* 1 / sqrt(mean x^2 + eps) of one row */
static double rms_scale(const Node *n, const double *x, int64_t width) {
    double mean = 0;
    for (int64_t i = 0; i < width; i++) mean += x[i] * x[i] / (double)width;
    return 1 / sqrt(mean + (double)n->attr.eps);
}

void ref_rms_norm(const Node *n, double *out, double *const *in) {
    int64_t width = n->shape.dim[n->shape.rank - 1];
    for (int64_t row = 0; row < row_count(n); row++) {
        double scale = rms_scale(n, in[0] + row * width, width);
        for (int64_t i = row * width; i < (row + 1) * width; i++) out[i] = in[0][i] * scale;
    }
}

void ref_rms_norm_dx(const Node *n, double *out, double *const *in) {
    int64_t width = n->shape.dim[n->shape.rank - 1];
    for (int64_t row = 0; row < row_count(n); row++) {
        const double *x = in[0] + row * width, *dy = in[1] + row * width;
        double scale = rms_scale(n, x, width), mean = 0; /* mean of dy h */
        for (int64_t i = 0; i < width; i++) mean += dy[i] * x[i] * scale / (double)width;
        for (int64_t i = 0; i < width; i++) out[row * width + i] = scale * (dy[i] - x[i] * scale * mean);
    }
}
