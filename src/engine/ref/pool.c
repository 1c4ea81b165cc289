/* Reference kernels: nearest upsampling and pooling over cells of q x q pixels, with their gradients.
 *
 * In EACH4 loops: a image, b channel, c row, d column. */
#include "engine/ref/ref.h"

#include <math.h>

void ref_upsample2x(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out), x = view4(n->in[0], in[0]);
    EACH4(y) * at4(&y, a, b, c, d) = *at4(&x, a, b, c / 2, d / 2);
}

void ref_upsample2x_grad(const Node *n, double *out, double *const *in) {
    View4 dx = view4(n, out), dy = view4(n->in[0], in[0]);
    EACH4(dx) {
        double sum = 0;
        for (int i = 0; i < 4; i++) sum += *at4(&dy, a, b, 2 * c + i / 2, 2 * d + i % 2);
        *at4(&dx, a, b, c, d) = sum;
    }
}

void ref_pixel_unshuffle(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out), x = view4(n->in[0], in[0]);
    int q = n->attr.pool;
    EACH4(y) {
        int64_t pixel = b % (q * q);
        *at4(&y, a, b, c, d) = *at4(&x, a, b / (q * q), c * q + pixel / q, d * q + pixel % q);
    }
}

void ref_pixel_shuffle(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out), x = view4(n->in[0], in[0]);
    int q = n->attr.pool;
    EACH4(y) * at4(&y, a, b, c, d) = *at4(&x, a, b * q * q + c % q * q + d % q, c / q, d / q);
}

typedef struct Cell {
    double mean, var;
} Cell;

static Cell cell_of(const View4 *x, int64_t a, int64_t b, int64_t row, int64_t col, int q) {
    Cell cell = {0, 0};
    for (int i = 0; i < q * q; i++) cell.mean += *at4(x, a, b, row * q + i / q, col * q + i % q) / (q * q);
    for (int i = 0; i < q * q; i++)
        cell.var += pow(*at4(x, a, b, row * q + i / q, col * q + i % q) - cell.mean, 2) / (q * q);
    return cell;
}

void ref_avg_pool(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out), x = view4(n->in[0], in[0]);
    EACH4(y) * at4(&y, a, b, c, d) = cell_of(&x, a, b, c, d, n->attr.pool).mean;
}

void ref_avg_pool_grad(const Node *n, double *out, double *const *in) {
    View4 dx = view4(n, out), dy = view4(n->in[0], in[0]);
    int q = n->attr.pool;
    EACH4(dx) * at4(&dx, a, b, c, d) = *at4(&dy, a, b, c / q, d / q) / (q * q);
}

void ref_pool_std(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out), x = view4(n->in[0], in[0]);
    double eps = (double)n->attr.eps;
    EACH4(y) {
        double var = cell_of(&x, a, b, c, d, n->attr.pool).var;
        *at4(&y, a, b, c, d) = sqrt(n->attr.floor ? fmax(var, eps) : var + eps);
    }
}

/* dx = dy (x - mean) / (q^2 std); zero where the floor holds */
void ref_pool_std_grad(const Node *n, double *out, double *const *in) {
    View4 dx = view4(n, out), x = view4(n->in[0], in[0]), std = view4(n->in[1], in[1]), dy = view4(n->in[2], in[2]);
    int q = n->attr.pool;
    EACH4(dx) {
        int64_t row = c / q, col = d / q;
        Cell cell = cell_of(&x, a, b, row, col, q);
        bool flat = n->attr.floor && cell.var < (double)n->attr.eps;
        double slope = (*at4(&x, a, b, c, d) - cell.mean) / (q * q * *at4(&std, a, b, row, col));
        *at4(&dx, a, b, c, d) = flat ? 0 : slope * *at4(&dy, a, b, row, col);
    }
}
