/* Reference kernels: elementwise ops with broadcasting, activations and their slopes, broadcast and its inverse. */
#include "engine/ref/ref.h"

#include <math.h>

#include "base/rng.h"

View4 view4(const Node *n, double *data) {
    View4 v = {.data = data, .dim = {1, 1, 1, 1}};
    int missing = 4 - n->shape.rank;
    for (int i = 0; i < n->shape.rank; i++) v.dim[missing + i] = n->shape.dim[i];
    /* activations of rank 4 lie in memory as [N,H,W,C], everything else in its own order */
    bool channels_last = n->shape.rank == 4 && n->op != OP_PARAM;
    const int order[2][4] = {{0, 1, 2, 3}, {0, 2, 3, 1}};
    int64_t stride = 1;
    for (int i = 3; i >= 0; i--) {
        int dim = order[channels_last][i];
        v.stride[dim] = stride;
        stride *= v.dim[dim];
    }
    return v;
}

View4 view4_broadcast(View4 v, View4 like) {
    for (int i = 0; i < 4; i++)
        if (v.dim[i] == 1 && like.dim[i] != 1) v.stride[i] = 0;
    return v;
}

void ref_add(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out);
    View4 p = view4_broadcast(view4(n->in[0], in[0]), y), q = view4_broadcast(view4(n->in[1], in[1]), y);
    EACH4(y) * at4(&y, a, b, c, d) = *at4(&p, a, b, c, d) + *at4(&q, a, b, c, d);
}

void ref_mul(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out);
    View4 p = view4_broadcast(view4(n->in[0], in[0]), y), q = view4_broadcast(view4(n->in[1], in[1]), y);
    EACH4(y) * at4(&y, a, b, c, d) = *at4(&p, a, b, c, d) * *at4(&q, a, b, c, d);
}

void ref_affine(const Node *n, double *out, double *const *in) {
    for (int64_t i = 0; i < shape_count(n->shape); i++)
        out[i] = (double)n->attr.alpha * in[0][i] + (double)n->attr.beta;
}

void ref_dropout(const Node *n, double *out, double *const *in) {
    const int32_t *keys = (const int32_t *)(const void *)in[1];
    const double p = (double)n->attr.alpha;
    const int64_t rows = n->shape.dim[0], width = shape_count(n->shape) / rows;
    for (int64_t i = 0; i < rows * width; i++) {
        const uint32_t *k = (const uint32_t *)keys + i / width * DROPOUT_KEY;
        const RngKey key = {(uint64_t)k[2] << 32 | k[1], RNG_DROPOUT, k[3], k[4], k[5]};
        const uint64_t at = (uint64_t)(i % width);
        uint32_t word[4];
        rng_words(key, ((uint64_t)n->attr.start << 32) + at / 4, word, 4);
        const bool gone = (double)word[at % 4] < p * 0x1p32;
        out[i] = k[0] == 0 ? in[0][i] : gone ? 0 : in[0][i] / (1 - p);
    }
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double normal_cdf(double x) { return 0.5 * (1 + erf(x / sqrt(2.0))); }
static double gelu_tanh_argument(double x) { return sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }

double ref_activation(Act kind, double x) {
    switch (kind) {
    case ACT_SILU: return x * sigmoid(x);
    case ACT_GELU: return x * normal_cdf(x);
    case ACT_QUICK_GELU: return x * sigmoid(1.702 * x);
    case ACT_RELU: return x > 0 ? x : 0;
    case ACT_SQUARE: return x * x;
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(gelu_tanh_argument(x)));
    default: return x;
    }
}

double ref_activation_slope(Act kind, double x) {
    double s, t;
    switch (kind) {
    case ACT_SILU: s = sigmoid(x); return s * (1 + x * (1 - s));
    case ACT_GELU: return normal_cdf(x) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
    case ACT_QUICK_GELU: s = sigmoid(1.702 * x); return s * (1 + 1.702 * x * (1 - s));
    case ACT_RELU: return x > 0 ? 1 : 0;
    case ACT_SQUARE: return 2 * x;
    case ACT_GELU_TANH:
        t = tanh(gelu_tanh_argument(x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    default: return 1;
    }
}

void ref_act(const Node *n, double *out, double *const *in) {
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = ref_activation(n->attr.act, in[0][i]);
}

void ref_act_grad(const Node *n, double *out, double *const *in) {
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = ref_activation_slope(n->attr.act, in[0][i]) * in[1][i];
}

/* x [rows, 2C] = [u | v] -> y [rows, C] = u gelu(v) */
void ref_geglu(const Node *n, double *out, double *const *in) {
    int64_t width = n->shape.dim[n->shape.rank - 1], rows = shape_count(n->shape) / width;
    for (int64_t r = 0; r < rows; r++) {
        const double *u = in[0] + r * 2 * width, *v = u + width;
        for (int64_t i = 0; i < width; i++) out[r * width + i] = u[i] * ref_activation(ACT_GELU, v[i]);
    }
}

/* du = dy gelu(v), dv = dy u gelu'(v) */
void ref_geglu_grad(const Node *n, double *out, double *const *in) {
    int64_t width = n->shape.dim[n->shape.rank - 1] / 2, rows = shape_count(n->shape) / width / 2;
    for (int64_t r = 0; r < rows; r++) {
        const double *u = in[0] + r * 2 * width, *v = u + width, *dy = in[1] + r * width;
        double *du = out + r * 2 * width, *dv = du + width;
        for (int64_t i = 0; i < width; i++) {
            du[i] = dy[i] * ref_activation(ACT_GELU, v[i]);
            dv[i] = dy[i] * u[i] * ref_activation_slope(ACT_GELU, v[i]);
        }
    }
}

void ref_sum_to(const Node *n, double *out, double *const *in) {
    View4 x = view4(n->in[0], in[0]), y = view4_broadcast(view4(n, out), x);
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = 0;
    EACH4(x) * at4(&y, a, b, c, d) += *at4(&x, a, b, c, d);
}

void ref_broadcast_to(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out), x = view4_broadcast(view4(n->in[0], in[0]), y);
    EACH4(y) * at4(&y, a, b, c, d) = *at4(&x, a, b, c, d);
}
