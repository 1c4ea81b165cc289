/* Elementwise kernels: sums, products, activations with derivatives, GEGLU, and sums along rows or columns. */
#include "engine/cpu/simd/elementwise.h"

#include "engine/cpu/simd/parts.h"

/* Runs `body` over whole vectors, then once more over a padded copy of what is left. In `body`, A and B are the inputs
 * at this place; its value is what to store. */
#define MAP(y, a, b, n, body)                                                                                          \
    do {                                                                                                               \
        size_t i_ = 0;                                                                                                 \
        for (; i_ + W <= (n); i_ += W) {                                                                               \
            vf A = load((a) + i_), B = load((b) + i_);                                                                 \
            (void)B;                                                                                                   \
            store((y) + i_, (body));                                                                                   \
        }                                                                                                              \
        if (i_ < (n)) {                                                                                                \
            vf A = load_some((a) + i_, (n)-i_), B = load_some((b) + i_, (n)-i_);                                       \
            (void)B;                                                                                                   \
            store_some((y) + i_, (body), (n)-i_);                                                                      \
        }                                                                                                              \
    } while (0)

static void add_all(float *y, const float *a, const float *b, size_t n) { MAP(y, a, b, n, A + B); }
static void add_scalar(float *y, const float *a, float s, size_t n) { MAP(y, a, a, n, A + s); }
static void mul_all(float *y, const float *a, const float *b, size_t n) { MAP(y, a, b, n, A * B); }
static void affine_all(float *y, const float *x, float alpha, float beta, size_t n) {
    MAP(y, x, x, n, A * alpha + beta);
}

#define ACT_LOOPS(kind, f)                                                                                             \
    static void f##_all(float *y, const float *x, size_t n) { MAP(y, x, x, n, f##_of(A)); }                            \
    static void f##_grad_all(float *dx, const float *x, const float *dy, size_t n) {                                   \
        MAP(dx, x, dy, n, f##_slope(A) * B);                                                                           \
    }
FOR_EACH_ACT(ACT_LOOPS)

#define ACT_ENTRY(kind, f) [kind] = f##_all,
#define ACT_GRAD_ENTRY(kind, f) [kind] = f##_grad_all,

static void act_all(Act kind, float *y, const float *x, size_t n) {
    static void (*const loops[ACT_COUNT])(float *, const float *, size_t) = {FOR_EACH_ACT(ACT_ENTRY)};
    loops[kind](y, x, n);
}

static void act_grad(Act kind, float *dx, const float *x, const float *dy, size_t n) {
    static void (*const loops[ACT_COUNT])(float *, const float *, const float *,
                                          size_t) = {FOR_EACH_ACT(ACT_GRAD_ENTRY)};
    loops[kind](dx, x, dy, n);
}

static void geglu_all(float *y, const float *x, const float *gate, size_t n) { MAP(y, x, gate, n, A * gelu_of(B)); }

static void geglu_grad(float *dx, float *dgate, const float *x, const float *gate, const float *dy, size_t n) {
    for (size_t i = 0; i < n; i += W) {
        size_t m = n - i < W ? n - i : W;
        bool whole = m == W;
        vf a = whole ? load(x + i) : load_some(x + i, m), g = whole ? load(gate + i) : load_some(gate + i, m);
        vf d = whole ? load(dy + i) : load_some(dy + i, m), cdf = normal_cdf_of(g);
        vf da = d * g * cdf, dg = d * a * (cdf + g * normal_density_of(g));
        if (whole) {
            store(dx + i, da);
            store(dgate + i, dg);
        } else {
            store_some(dx + i, da, m);
            store_some(dgate + i, dg, m);
        }
    }
}

#if defined(__F16C__)
static void half_to_float(float *y, const void *x, size_t n) {
    const char *from = x;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(from + 2 * i))));
    if (i == n) return;
    uint16_t rest[8] = {0};
    float last[8];
    memcpy(rest, from + 2 * i, 2 * (n - i));
    _mm256_storeu_ps(last, _mm256_cvtph_ps(_mm_loadu_si128((const void *)rest)));
    memcpy(y + i, last, (n - i) * sizeof(float));
}
#endif

/* Four partial sums hide the latency of addition. */
static float row_sum(const float *x, size_t n) {
    vf s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    size_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        s0 += load(x + i);
        s1 += load(x + i + W);
        s2 += load(x + i + 2 * W);
        s3 += load(x + i + 3 * W);
    }
    for (; i + W <= n; i += W) s0 += load(x + i);
    if (i < n) s1 += load_some(x + i, n - i);
    return sum_lanes((s0 + s1) + (s2 + s3));
}

static void column_sum(float *sum, const float *x, size_t rows, size_t n, size_t stride) {
    size_t i = 0;
    for (; i + W <= n; i += W) {
        vf even = {0}, odd = {0};
        size_t r = 0;
        for (; r + 2 <= rows; r += 2) {
            even += load(x + r * stride + i);
            odd += load(x + (r + 1) * stride + i);
        }
        if (r < rows) even += load(x + r * stride + i);
        store(sum + i, even + odd);
    }
    for (; i < n; i++) {
        float s = 0;
        for (size_t r = 0; r < rows; r++) s += x[r * stride + i];
        sum[i] = s;
    }
}

void PART(elementwise)(SimdKernels *k) {
    k->add = add_all;
    k->add_scalar = add_scalar;
    k->mul = mul_all;
    k->affine = affine_all;
    k->act = act_all;
    k->act_grad = act_grad;
    k->geglu = geglu_all;
    k->geglu_grad = geglu_grad;
#if defined(__F16C__)
    k->half_to_float = half_to_float;
#endif
    k->row_sum = row_sum;
    k->column_sum = column_sum;
}
