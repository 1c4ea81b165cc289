/* Reference kernels: attention, softmax(alpha q k^T) v per head, and its gradient.
 *
 *     P = softmax(S), S = alpha q k^T         dv = P^T dy        dP = dy v^T
 *     dS = P (dP - sum_j P dP)                dq = alpha dS k    dk = alpha dS^T q
 *
 * k and v with batch 1 serve every image of q; their gradients then sum over the batch. */
#include "engine/ref/ref.h"

#include <math.h>

/* One query: its row of q, the keys and values of its head. Rows are `width` apart. */
typedef struct Row {
    const double *q, *k, *v;
    int64_t keys, head_size, width;
    double alpha;
} Row;

static double score(const Row *r, int64_t j) {
    double sum = 0;
    for (int64_t i = 0; i < r->head_size; i++) sum += r->q[i] * r->k[j * r->width + i];
    return r->alpha * sum;
}

/* Largest score and sum of exp(score - largest): all a softmax needs beside the scores. */
static double softmax_sum(const Row *r, double *largest) {
    double sum = 0;
    *largest = -INFINITY;
    for (int64_t j = 0; j < r->keys; j++) *largest = fmax(*largest, score(r, j));
    for (int64_t j = 0; j < r->keys; j++) sum += exp(score(r, j) - *largest);
    return sum;
}

/* Where row (image, query, head) of an attention node begins in q, k, v. */
static Row row_of(const Node *n, double *const *in, int64_t image, int64_t query, int64_t head, int64_t *q_at,
                  int64_t *k_at) {
    Shape q = n->in[0]->shape, k = n->in[1]->shape;
    int64_t head_size = q.dim[2] / n->attr.groups;
    *q_at = (image * q.dim[1] + query) * q.dim[2] + head * head_size;
    *k_at = (k.dim[0] == 1 ? 0 : image) * k.dim[1] * k.dim[2] + head * head_size;
    return (Row){.q = in[0] + *q_at,
                 .k = in[1] + *k_at,
                 .v = in[2] + *k_at,
                 .keys = n->attr.causal ? query + 1 : k.dim[1],
                 .head_size = head_size,
                 .width = q.dim[2],
                 .alpha = (double)n->attr.alpha};
}

void ref_attention(const Node *n, double *out, double *const *in) {
    for (int64_t image = 0; image < n->shape.dim[0]; image++) {
        for (int64_t query = 0; query < n->shape.dim[1]; query++) {
            for (int64_t head = 0; head < n->attr.groups; head++) {
                int64_t q_at, k_at;
                double largest;
                Row r = row_of(n, in, image, query, head, &q_at, &k_at);
                double sum = softmax_sum(&r, &largest);
                for (int64_t i = 0; i < r.head_size; i++) out[q_at + i] = 0;
                for (int64_t j = 0; j < r.keys; j++) {
                    double weight = exp(score(&r, j) - largest) / sum;
                    for (int64_t i = 0; i < r.head_size; i++) out[q_at + i] += weight * r.v[j * r.width + i];
                }
            }
        }
    }
}

static double dot_value(const Row *r, const double *dy, int64_t j) {
    double sum = 0;
    for (int64_t i = 0; i < r->head_size; i++) sum += dy[i] * r->v[j * r->width + i];
    return sum;
}

static void row_gradient(const Row *r, const double *dy, double *dq, double *dk, double *dv) {
    double largest, sum = softmax_sum(r, &largest), mean = 0; /* mean = sum_j P dP */
    for (int64_t j = 0; j < r->keys; j++) mean += exp(score(r, j) - largest) / sum * dot_value(r, dy, j);
    for (int64_t j = 0; j < r->keys; j++) {
        double weight = exp(score(r, j) - largest) / sum;
        double ds = r->alpha * weight * (dot_value(r, dy, j) - mean);
        for (int64_t i = 0; i < r->head_size; i++) {
            dq[i] += ds * r->k[j * r->width + i];
            dk[j * r->width + i] += ds * r->q[i];
            dv[j * r->width + i] += weight * dy[i];
        }
    }
}

void ref_attention_grad(const Node *n, double *out, double *const *in) {
    Shape q = n->in[0]->shape;
    double *dk = out + shape_count(q), *dv = dk + shape_count(n->in[1]->shape);
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = 0;
    for (int64_t image = 0; image < q.dim[0]; image++) {
        for (int64_t query = 0; query < q.dim[1]; query++) {
            for (int64_t head = 0; head < n->attr.groups; head++) {
                int64_t q_at, k_at;
                Row r = row_of(n, in, image, query, head, &q_at, &k_at);
                row_gradient(&r, in[3] + q_at, out + q_at, dk + k_at, dv + k_at);
            }
        }
    }
}
