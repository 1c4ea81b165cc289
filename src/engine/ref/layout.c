/* Reference kernels: ops that move values. */
#include "engine/ref/ref.h"

/* Copies `part` onto the places of `whole` that begin at `start` along `axis` (counted among four), or back. */
static void copy_part(View4 part, View4 whole, int axis, int64_t start, bool into_whole) {
    int64_t shift[4] = {0};
    shift[axis] = start;
    EACH4(part) {
        double *p = at4(&part, a, b, c, d), *w = at4(&whole, a + shift[0], b + shift[1], c + shift[2], d + shift[3]);
        *(into_whole ? w : p) = *(into_whole ? p : w);
    }
}

static int axis_of_four(const Node *n) { return n->attr.axis + 4 - n->shape.rank; }

void ref_concat(const Node *n, double *out, double *const *in) {
    View4 y = view4(n, out);
    copy_part(view4(n->in[0], in[0]), y, axis_of_four(n), 0, true);
    copy_part(view4(n->in[1], in[1]), y, axis_of_four(n), n->in[0]->shape.dim[n->attr.axis], true);
}

void ref_slice(const Node *n, double *out, double *const *in) {
    copy_part(view4(n, out), view4(n->in[0], in[0]), axis_of_four(n), n->attr.start, false);
}

void ref_pad_axis(const Node *n, double *out, double *const *in) {
    for (int64_t i = 0; i < shape_count(n->shape); i++) out[i] = 0;
    copy_part(view4(n->in[0], in[0]), view4(n, out), axis_of_four(n), n->attr.start, true);
}

/* y [N,T,C]: row ids[n,t] of table [V,C]; ids outside the table give zeros */
void ref_embed(const Node *n, double *out, double *const *in) {
    const int32_t *ids = (const int32_t *)(const void *)in[0];
    int64_t width = n->shape.dim[2], rows = n->in[1]->shape.dim[0];
    for (int64_t t = 0; t < shape_count(n->in[0]->shape); t++) {
        bool known = ids[t] >= 0 && ids[t] < rows;
        for (int64_t i = 0; i < width; i++) out[t * width + i] = known ? in[1][ids[t] * width + i] : 0;
    }
}

void ref_embed_grad(const Node *n, double *out, double *const *in) {
    const int32_t *ids = (const int32_t *)(const void *)in[0];
    int64_t width = n->shape.dim[1], rows = n->shape.dim[0];
    for (int64_t i = 0; i < rows * width; i++) out[i] = 0;
    for (int64_t t = 0; t < shape_count(n->in[0]->shape); t++) {
        if (ids[t] < 0 || ids[t] >= rows) continue;
        for (int64_t i = 0; i < width; i++) out[ids[t] * width + i] += in[1][t * width + i];
    }
}
