/* LINEAR with a weight that stays in its stored 16-bit type: y [m,n] = act(alpha x w^T + bias + residual).
 *
 * A language model of 8 billion weights has no room as float32. So the product is cut into panels of output columns:
 * the panel's rows of w become float32 in a workspace of a few megabytes, which the caches hold, and are multiplied at
 * once. The result is that of float32 weights; the conversion adds about 5% where x has some hundred rows. */
#include <stdlib.h>

#include "engine/cpu/cpu.h"

enum { PANEL_BYTES = 8 << 20, FEWEST_ROWS = 256, MOST_ROWS = 1024, ROW_UNIT = 64 };

/* One primitive and what it works on; `whole` panels and the `rest` behind them differ in their number of rows. */
typedef struct Panel {
    int64_t rows;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y, bias, scratch;
    size_t scratch_bytes;
} Panel;

typedef struct Stored {
    CpuBackend *b;
    const Param *w; /* [n,k] */
    int64_t m, n, k;
    bool residual;
    int bias_arg; /* 0: none */
    Panel whole, rest;
} Stored;

bool cpu_is_stored(const Node *n) {
    const Node *w = n->in[1];
    return w->op == OP_PARAM && w->param->stored && !w->param->trainable && w->param->dtype != DT_F32;
}

static size_t panel_bytes(const Stored *s) { return aligned((size_t)(s->whole.rows * s->k) * sizeof(float)); }

static void read_panel(const Stored *s, int64_t first, int64_t rows, float *out) {
#pragma omp parallel for num_threads(s->b->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        cpu_read_weight(s->b, s->w, (size_t)((first + r) * s->k), (size_t)s->k, out + r * s->k);
}

static int run_panel(const Stored *s, const Panel *p, int64_t first, float *y, void *const *in, char *workspace) {
    read_panel(s, first, p->rows, (float *)workspace);
    dnnl_exec_arg_t arg[5] = {{DNNL_ARG_SRC, p->x}, {DNNL_ARG_WEIGHTS, p->w}, {DNNL_ARG_DST, p->y}};
    void *data[5] = {in[0], workspace, y + first};
    int n = 3;
    if (p->bias) {
        arg[n] = (dnnl_exec_arg_t){s->bias_arg, p->bias};
        data[n++] = floats(in[2]) + first;
    }
    if (p->scratch) {
        arg[n] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, p->scratch};
        data[n++] = workspace + panel_bytes(s);
    }
    for (int i = 0; i < n; i++)
        if (dnnl_memory_set_data_handle(arg[i].memory, data[i])) return DRPO_E_INTERNAL;
    if (dnnl_primitive_execute(p->primitive, s->b->stream, n, arg)) return DRPO_E_INTERNAL;
    return dnnl_stream_wait(s->b->stream) ? DRPO_E_INTERNAL : 0;
}

static int run_stored(const Kernel *k, void *out, void *const *in, void *workspace) {
    const Stored *s = k->state;
    cpu_enter(s->b);
    if (s->residual && in[3] != out) cpu_copy(s->b, out, in[3], (size_t)(s->m * s->n) * sizeof(float));
    int64_t first = 0;
    for (; first + s->whole.rows <= s->n; first += s->whole.rows)
        TRY(run_panel(s, &s->whole, first, out, in, workspace));
    return first < s->n ? run_panel(s, &s->rest, first, out, in, workspace) : 0;
}

static void release_panel(Panel *p) {
    dnnl_memory_destroy(p->x);
    dnnl_memory_destroy(p->w);
    dnnl_memory_destroy(p->y);
    dnnl_memory_destroy(p->bias);
    dnnl_memory_destroy(p->scratch);
    dnnl_primitive_destroy(p->primitive);
}

static void release_stored(Kernel *k) {
    Stored *s = k->state;
    release_panel(&s->whole);
    release_panel(&s->rest);
    free(s);
    k->state = NULL;
}

/* ---- preparation ---- */

typedef struct Layouts {
    dnnl_memory_desc_t x, w, y, bias;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd;
} Layouts;

static void destroy_layouts(Layouts *l) {
    dnnl_memory_desc_destroy(l->x);
    dnnl_memory_desc_destroy(l->w);
    dnnl_memory_desc_destroy(l->y);
    dnnl_memory_desc_destroy(l->bias);
    dnnl_primitive_attr_destroy(l->attr);
    dnnl_primitive_desc_destroy(l->pd);
}

static int make_memory(const Stored *s, const_dnnl_memory_desc_t md, dnnl_memory_t *out, Error *err) {
    return dnnl_failed(dnnl_memory_create(out, md, s->b->engine, NULL), "describing memory", err);
}

static int make_primitive(Stored *s, const Node *n, Panel *p, Layouts *l, Error *err) {
    const bool bias = n->n_in > 2 && n->in[2], bias_after = bias && n->attr.alpha != 1;
    dnnl_dims_t size = {s->m, p->rows}, stride = {s->n, 1};
    l->x = dnnl_layout(2, (int64_t[]){s->m, s->k}, dnnl_ab);
    l->w = dnnl_layout(2, (int64_t[]){s->k, p->rows}, dnnl_ba);
    TRY(dnnl_failed(dnnl_memory_desc_create_with_strides(&l->y, 2, size, dnnl_f32, stride), "a layout", err));
    if (bias) l->bias = dnnl_layout(2, (int64_t[]){1, p->rows}, dnnl_ab);
    s->bias_arg = bias_after ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(1) | DNNL_ARG_SRC_1 : bias ? DNNL_ARG_BIAS : 0;
    TRY(dnnl_op_attributes(&l->attr, n->attr.alpha, bias_after ? l->bias : NULL, s->residual, n->attr.act, err));
    TRY(dnnl_failed(
        dnnl_matmul_primitive_desc_create(&l->pd, s->b->engine, l->x, l->w, bias_after ? NULL : l->bias, l->y, l->attr),
        "a matrix product", err));
    TRY(dnnl_failed(dnnl_primitive_create(&p->primitive, l->pd), "creating a primitive", err));
    const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(l->pd, dnnl_query_scratchpad_md, 0);
    p->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    TRY(make_memory(s, l->x, &p->x, err));
    TRY(make_memory(s, l->w, &p->w, err));
    TRY(make_memory(s, l->y, &p->y, err));
    if (bias) TRY(make_memory(s, l->bias, &p->bias, err));
    return p->scratch_bytes ? make_memory(s, scratch, &p->scratch, err) : 0;
}

static int make_panel(Stored *s, const Node *n, Panel *p, int64_t rows, Error *err) {
    Layouts l = {0};
    p->rows = rows;
    int code = rows ? make_primitive(s, n, p, &l, err) : 0;
    destroy_layouts(&l);
    return code;
}

static int64_t panel_rows(int64_t n, int64_t k) {
    int64_t rows = PANEL_BYTES / (k * (int64_t)sizeof(float)) / ROW_UNIT * ROW_UNIT;
    if (rows < FEWEST_ROWS) rows = FEWEST_ROWS;
    if (rows > MOST_ROWS) rows = MOST_ROWS;
    return min_i64(rows, n);
}

int cpu_linear_stored(CpuBackend *b, const Node *n, Kernel *k, Error *err) {
    Stored *s = cpu_state(b, k, sizeof *s, err);
    if (!s) return DRPO_E_MEMORY;
    k->run = run_stored;
    k->release = release_stored;
    k->packed = 1u << 1;
    s->w = n->in[1]->param;
    s->n = s->w->shape.dim[0];
    s->k = s->w->shape.dim[1];
    s->m = shape_count(n->shape) / s->n;
    s->residual = n->n_in > 3 && n->in[3];
    cpu_enter(b);
    int64_t rows = panel_rows(s->n, s->k);
    TRY(make_panel(s, n, &s->whole, rows, err));
    TRY(make_panel(s, n, &s->rest, s->n % rows, err));
    size_t scratch = s->whole.scratch_bytes > s->rest.scratch_bytes ? s->whole.scratch_bytes : s->rest.scratch_bytes;
    k->workspace = panel_bytes(s) + scratch;
    return 0;
}
