/* Group norm, layer norm and RMS norm with their gradients.
 *
 *     xhat = (x - mean) rstd,   z = w xhat + b,   y = act(z)
 *     dx = rstd (g - mean(g) - xhat mean(g xhat)),   g = w act'(z) dy,   dw = sum act'(z) dy xhat,   db = sum act'(z)
 * dy
 *
 * Group norm works on blocks of channels-last pixels; the caller combines the blocks' per-channel sums in a fixed
 * order. */
#include "engine/cpu/simd/elementwise.h"
#include "engine/cpu/simd/parts.h"

/* ---- group norm ---- */

/* Sums of d and d^2, d = x - shift: the shift keeps the variance exact where the mean is large. */
static void shifted_sums(float *sum, float *square, const float *x, const float *shift, size_t rows, size_t c) {
    for (size_t i = 0; i < c; i += W) {
        size_t m = c - i < W ? c - i : W;
        bool whole = m == W;
        vf s = {0}, q = {0}, k = whole ? load(shift + i) : load_some(shift + i, m);
        for (size_t r = 0; r < rows; r++) {
            vf d = (whole ? load(x + r * c + i) : load_some(x + r * c + i, m)) - k;
            s += d;
            q += d * d;
        }
        if (whole) {
            store(sum + i, s);
            store(square + i, q);
        } else {
            store_some(sum + i, s, m);
            store_some(square + i, q, m);
        }
    }
}

#define NORMALIZE(kind, f)                                                                                             \
    static void normalize_##f(float *y, const float *x, NormRow n, size_t rows, size_t c) {                            \
        for (size_t r = 0; r < rows; r++, x += c, y += c) {                                                            \
            size_t i = 0;                                                                                              \
            for (; i + W <= c; i += W)                                                                                 \
                store(y + i, f##_of((load(x + i) - load(n.mean + i)) * load(n.scale + i) + load(n.bias + i)));         \
            if (i < c) {                                                                                               \
                size_t m = c - i;                                                                                      \
                vf d = load_some(x + i, m) - load_some(n.mean + i, m);                                                 \
                store_some(y + i, f##_of(d * load_some(n.scale + i, m) + load_some(n.bias + i, m)), m);                \
            }                                                                                                          \
        }                                                                                                              \
    }
FOR_EACH_ACT(NORMALIZE)
#define NORMALIZE_ENTRY(kind, f) [kind] = normalize_##f,

static void normalize(float *y, const float *x, NormRow n, Act act, size_t rows, size_t c) {
    static void (*const loops[ACT_COUNT])(float *, const float *, NormRow, size_t,
                                          size_t) = {FOR_EACH_ACT(NORMALIZE_ENTRY)};
    loops[act](y, x, n, rows, c);
}

/* Columns of W channels, down the rows: the sums stay in registers. */
#define GRAD_SUMS(kind, f)                                                                                             \
    INLINE void grad_column_##f(float *dz, float *sum, float *sum_xhat, const float *x, const float *dy, NormRow n,    \
                                size_t rows, size_t c, size_t i, size_t m) {                                           \
        bool whole = m == W;                                                                                           \
        vf mean = whole ? load(n.mean + i) : load_some(n.mean + i, m), s = {0}, p = {0};                               \
        vf scale = whole ? load(n.scale + i) : load_some(n.scale + i, m);                                              \
        vf bias = whole ? load(n.bias + i) : load_some(n.bias + i, m);                                                 \
        vf rstd = whole ? load(n.rstd + i) : load_some(n.rstd + i, m);                                                 \
        for (size_t at = i; at < rows * c; at += c) {                                                                  \
            vf d = (whole ? load(x + at) : load_some(x + at, m)) - mean;                                               \
            vf g = (whole ? load(dy + at) : load_some(dy + at, m)) * f##_slope(d * scale + bias);                      \
            s += g;                                                                                                    \
            p += g * d;                                                                                                \
            if (dz && whole) store(dz + at, g);                                                                        \
            if (dz && !whole) store_some(dz + at, g, m);                                                               \
        }                                                                                                              \
        store_some(sum + i, s, m);                                                                                     \
        store_some(sum_xhat + i, p * rstd, m);                                                                         \
    }                                                                                                                  \
    static void grad_sums_##f(float *dz, float *sum, float *sum_xhat, const float *x, const float *dy, NormRow n,      \
                              size_t rows, size_t c) {                                                                 \
        size_t i = 0;                                                                                                  \
        for (; i + W <= c; i += W) grad_column_##f(dz, sum, sum_xhat, x, dy, n, rows, c, i, W);                        \
        if (i < c) grad_column_##f(dz, sum, sum_xhat, x, dy, n, rows, c, i, c - i);                                    \
    }
FOR_EACH_ACT(GRAD_SUMS)
#define GRAD_SUMS_ENTRY(kind, f) [kind] = grad_sums_##f,

static void norm_grad_sums(float *dz, float *sum, float *sum_xhat, const float *x, const float *dy, NormRow n, Act act,
                           size_t rows, size_t c) {
    static void (*const loops[ACT_COUNT])(float *, float *, float *, const float *, const float *, NormRow, size_t,
                                          size_t) = {FOR_EACH_ACT(GRAD_SUMS_ENTRY)};
    loops[act](dz, sum, sum_xhat, x, dy, n, rows, c);
}

static void norm_grad(float *dx, const float *dz, const float *x, NormRow n, const float *q, const float *r,
                      size_t rows, size_t c) {
    for (size_t row = 0; row < rows; row++, x += c, dz += c, dx += c) {
        size_t i = 0;
        for (; i + W <= c; i += W)
            store(dx + i,
                  load(n.scale + i) * load(dz + i) + load(q + i) * (load(x + i) - load(n.mean + i)) + load(r + i));
        for (; i < c; i++) dx[i] = n.scale[i] * dz[i] + q[i] * (x[i] - n.mean[i]) + r[i];
    }
}

/* ---- layer norm ---- */

typedef struct Moments {
    float mean, rstd;
} Moments;

static Moments row_moments(const float *x, float eps, size_t n) {
    vf s = {0}, q = {0};
    size_t i = 0;
    for (; i + W <= n; i += W) s += load(x + i);
    float tail = 0;
    for (size_t j = i; j < n; j++) tail += x[j];
    float mean = (sum_lanes(s) + tail) / (float)n;
    for (i = 0; i + W <= n; i += W) {
        vf d = load(x + i) - mean;
        q += d * d;
    }
    tail = 0;
    for (size_t j = i; j < n; j++) tail += (x[j] - mean) * (x[j] - mean);
    return (Moments){mean, 1.0f / __builtin_sqrtf((sum_lanes(q) + tail) / (float)n + eps)};
}

static void layer_norm_row(float *y, const float *x, const float *w, const float *b, float eps, size_t n) {
    Moments m = row_moments(x, eps, n);
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, (load(x + i) - m.mean) * m.rstd * load(w + i) + load(b + i));
    for (; i < n; i++) y[i] = (x[i] - m.mean) * m.rstd * w[i] + b[i];
}

static void layer_norm_dx(float *dx, const float *x, const float *w, const float *dy, float eps, size_t n) {
    Moments m = row_moments(x, eps, n);
    vf s = {0}, p = {0};
    float s_tail = 0, p_tail = 0;
    size_t i = 0;
    for (; i + W <= n; i += W) {
        vf g = load(dy + i) * load(w + i);
        s += g;
        p += g * (load(x + i) - m.mean);
    }
    for (; i < n; i++) {
        s_tail += dy[i] * w[i];
        p_tail += dy[i] * w[i] * (x[i] - m.mean);
    }
    float mean_g = (sum_lanes(s) + s_tail) / (float)n;
    float slope = (sum_lanes(p) + p_tail) * m.rstd * m.rstd / (float)n; /* mean(g xhat) rstd */
    for (i = 0; i + W <= n; i += W)
        store(dx + i, m.rstd * (load(dy + i) * load(w + i) - mean_g - (load(x + i) - m.mean) * slope));
    for (; i < n; i++) dx[i] = m.rstd * (dy[i] * w[i] - mean_g - (x[i] - m.mean) * slope);
}

static void layer_norm_dwb(float *dw, float *db, const float *x, const float *dy, float eps, size_t n) {
    Moments m = row_moments(x, eps, n);
    size_t i = 0;
    for (; i + W <= n; i += W) {
        vf g = load(dy + i);
        store(dw + i, load(dw + i) + g * (load(x + i) - m.mean) * m.rstd);
        store(db + i, load(db + i) + g);
    }
    for (; i < n; i++) {
        dw[i] += dy[i] * (x[i] - m.mean) * m.rstd;
        db[i] += dy[i];
    }
}

/* ---- RMS norm ---- */

static float dot(const float *a, const float *b, size_t n) {
    vf s = {0};
    size_t i = 0;
    for (; i + W <= n; i += W) s += load(a + i) * load(b + i);
    float tail = 0;
    for (; i < n; i++) tail += a[i] * b[i];
    return sum_lanes(s) + tail;
}

static float rms_scale(const float *x, float eps, size_t n) {
    return 1.0f / __builtin_sqrtf(dot(x, x, n) / (float)n + eps);
}

static void rms_norm_row(float *y, const float *x, float eps, size_t n) {
    float scale = rms_scale(x, eps, n);
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(x + i) * scale);
    for (; i < n; i++) y[i] = x[i] * scale;
}

static void rms_norm_dx(float *dx, const float *x, const float *dy, float eps, size_t n) {
    float scale = rms_scale(x, eps, n), slope = dot(x, dy, n) * scale * scale / (float)n; /* mean(dy h) rstd */
    size_t i = 0;
    for (; i + W <= n; i += W) store(dx + i, scale * (load(dy + i) - load(x + i) * slope));
    for (; i < n; i++) dx[i] = scale * (dy[i] - x[i] * slope);
}

void PART(norms)(SimdKernels *k) {
    k->shifted_sums = shifted_sums;
    k->normalize = normalize;
    k->norm_grad_sums = norm_grad_sums;
    k->norm_grad = norm_grad;
    k->layer_norm = layer_norm_row;
    k->layer_norm_dx = layer_norm_dx;
    k->layer_norm_dwb = layer_norm_dwb;
    k->rms_norm = rms_norm_row;
    k->rms_norm_dx = rms_norm_dx;
}
