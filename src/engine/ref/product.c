/* Reference kernels: matrix products and convolutions with their gradients, as plain sums. */
#include "engine/ref/ref.h"

/* y [rows,out] = act(alpha x [rows,in] w^T [out,in] + bias [out] + residual [rows,out]) */
void ref_linear(const Node *n, double *out, double *const *in) {
    int64_t out_f = n->in[1]->shape.dim[0], in_f = n->in[1]->shape.dim[1], rows = shape_count(n->shape) / out_f;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = 0; o < out_f; o++) {
            double sum = 0;
            for (int64_t i = 0; i < in_f; i++) sum += in[0][r * in_f + i] * in[1][o * in_f + i];
            sum *= (double)n->attr.alpha;
            if (in[2]) sum += in[2][o];
            if (in[3]) sum += in[3][r * out_f + o];
            out[r * out_f + o] = ref_activation(n->attr.act, sum);
        }
    }
}

/* dx [rows,in] = alpha dy [rows,out] w [out,in] + residual */
void ref_linear_dx(const Node *n, double *out, double *const *in) {
    int64_t out_f = n->in[1]->shape.dim[0], in_f = n->in[1]->shape.dim[1], rows = shape_count(n->shape) / in_f;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < in_f; i++) {
            double sum = 0;
            for (int64_t o = 0; o < out_f; o++) sum += in[0][r * out_f + o] * in[1][o * in_f + i];
            out[r * in_f + i] = (double)n->attr.alpha * sum + (in[2] ? in[2][r * in_f + i] : 0);
        }
    }
}

/* dw [out,in] = alpha dy^T x */
void ref_linear_dw(const Node *n, double *out, double *const *in) {
    int64_t out_f = n->shape.dim[0], in_f = n->shape.dim[1], rows = shape_count(n->in[0]->shape) / in_f;
    for (int64_t o = 0; o < out_f; o++) {
        for (int64_t i = 0; i < in_f; i++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++) sum += in[1][r * out_f + o] * in[0][r * in_f + i];
            out[o * in_f + i] = (double)n->attr.alpha * sum;
        }
    }
}

/* y [batch,m,n] = alpha op(a) op(b) */
void ref_matmul(const Node *n, double *out, double *const *in) {
    const Shape *s = &n->shape, *sa = &n->in[0]->shape;
    int r = s->rank - 2;
    bool ta = n->attr.trans_a, tb = n->attr.trans_b;
    int64_t batch = r ? s->dim[0] : 1, m = s->dim[r], cols = s->dim[r + 1], inner = sa->dim[r + !ta];
    for (int64_t p = 0; p < batch; p++) {
        const double *a = in[0] + p * m * inner, *b = in[1] + p * inner * cols;
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < cols; j++) {
                double sum = 0;
                for (int64_t k = 0; k < inner; k++)
                    sum += (ta ? a[k * m + i] : a[i * inner + k]) * (tb ? b[j * inner + k] : b[k * cols + j]);
                out[(p * m + i) * cols + j] = (double)n->attr.alpha * sum;
            }
        }
    }
}

typedef void Term(double *x, double *w, double *y);

/* Calls term() for every product of an input pixel, a weight and an output pixel; the three convolution kernels differ
 * only in which of the three collects the sum. Many tests spend their time here. */
static inline __attribute__((always_inline)) void each_term(View4 x, View4 w, View4 y, int stride, Pad pad,
                                                            Term *term) {
    EACH4(y) { /* a: image, b: output channel, c: row, d: column */
        int64_t top = c * stride - pad.top, left = d * stride - pad.left;
        int64_t kw_first = left < 0 ? -left : 0, kw_end = w.dim[3] < x.dim[3] - left ? w.dim[3] : x.dim[3] - left;
        double *sum = at4(&y, a, b, c, d);
        for (int64_t i = 0; i < w.dim[1]; i++) {
            for (int64_t kh = top < 0 ? -top : 0; kh < w.dim[2] && top + kh < x.dim[2]; kh++) {
                for (int64_t kw = kw_first; kw < kw_end; kw++)
                    term(at4(&x, a, i, top + kh, left + kw), at4(&w, b, i, kh, kw), sum);
            }
        }
    }
}

static inline void into_y(double *x, double *w, double *y) { *y += *x * *w; }
static inline void into_x(double *x, double *w, double *y) { *x += *y * *w; }
static inline void into_w(double *x, double *w, double *y) { *w += *x * *y; }

static void clear(const Node *n, double *out) {
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = 0;
}

/* y = act(conv(x [N,C,H,W], w [O,C,kh,kw]) + bias [O] + residual); the sum starts from the residual, which may be `out`
 */
void ref_conv2d(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out);
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = in[3] ? in[3][i] : 0;
    each_term(view4(n->in[0], in[0]), view4(n->in[1], in[1]), y, n->attr.stride, n->attr.pad, into_y);
    EACH4(y) {
        double *value = at4(&y, a, b, c, d);
        *value = ref_activation(n->attr.act, *value + (in[2] ? in[2][b] : 0));
    }
}

void ref_conv2d_dx(const Node *n, double *out, double *const *in) {
    clear(n, out);
    each_term(view4(n, out), view4(n->in[1], in[1]), view4(n->in[0], in[0]), n->attr.stride, n->attr.pad, into_x);
}

void ref_conv2d_dw(const Node *n, double *out, double *const *in) {
    clear(n, out);
    each_term(view4(n->in[0], in[0]), view4(n, out), view4(n->in[1], in[1]), n->attr.stride, n->attr.pad, into_w);
}
