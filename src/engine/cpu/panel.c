/* Products with a weight that stays as its file has it:
 *
 *     y [m,rows]    = act(alpha x w^T + bias + residual)     transposed
 *     y [m,columns] = alpha x w + residual                   otherwise          w [rows,columns]
 *
 * Published generators take gigabytes as packed float32, once for each direction; their files lie mapped already. So
 * the product is cut into panels of y's columns: a 16-bit panel of w becomes float32 in a workspace of a few megabytes,
 * which the caches hold, and is multiplied at once; a float32 one is read where it lies. Results are those of float32
 * weights. */
#include <stdlib.h>

#include "engine/cpu/cpu.h"

enum { PANEL_BYTES = 8 << 20, NARROWEST = 256, WIDEST = 1024, WIDTH_UNIT = 64 };

/* One primitive and what it works on; whole panels and the rest behind them differ in their width. */
typedef struct Panel {
    int64_t width; /* columns of y */
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y, bias, scratch;
    size_t scratch_bytes;
} Panel;

struct PanelProduct {
    CpuBackend *b;
    PanelSpec spec;
    int64_t n, k;
    bool in_place;
    int bias_arg; /* 0: none */
    Panel whole, rest;
};

static size_t panel_bytes(const PanelProduct *p) {
    return p->in_place ? 0 : aligned((size_t)(p->whole.width * p->k) * sizeof(float));
}

/* ---- running ---- */

static float *read_panel(const PanelProduct *p, int64_t first, int64_t width, float *out) {
    const int64_t columns = p->spec.columns;
    const bool t = p->spec.transposed;
    const int64_t rows = t ? width : p->k, run = t ? p->k : width;
    const size_t start = (size_t)(t ? first * columns : first);
    if (p->in_place) return (float *)(uintptr_t)p->spec.w->data + start;
#pragma omp parallel for num_threads(p->b->threads) schedule(static)
    for (int64_t r = 0; r < rows; r++)
        cpu_read_weight(p->b, p->spec.w, start + (size_t)(r * columns), (size_t)run, out + r * run);
    return out;
}

int panel_product_run(const PanelProduct *p, int64_t first, float *y, const float *x, const float *bias,
                      void *workspace) {
    const Panel *panel = first + p->whole.width <= p->n ? &p->whole : &p->rest;
    dnnl_exec_arg_t arg[5] = {{DNNL_ARG_SRC, panel->x}, {DNNL_ARG_WEIGHTS, panel->w}, {DNNL_ARG_DST, panel->y}};
    void *data[5] = {(void *)(uintptr_t)x, read_panel(p, first, panel->width, workspace), y};
    int n = 3;
    if (panel->bias) {
        arg[n] = (dnnl_exec_arg_t){p->bias_arg, panel->bias};
        data[n++] = (float *)(uintptr_t)bias + first;
    }
    if (panel->scratch) {
        arg[n] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, panel->scratch};
        data[n++] = (char *)workspace + panel_bytes(p);
    }
    for (int i = 0; i < n; i++)
        if (dnnl_memory_set_data_handle(arg[i].memory, data[i])) return DRPO_E_INTERNAL;
    if (dnnl_primitive_execute(panel->primitive, p->b->stream, n, arg)) return DRPO_E_INTERNAL;
    return dnnl_stream_wait(p->b->stream) ? DRPO_E_INTERNAL : 0;
}

int64_t panel_product_width(const PanelProduct *p) { return p->whole.width; }

size_t panel_product_workspace(const PanelProduct *p) {
    size_t whole = p->whole.scratch_bytes, rest = p->rest.scratch_bytes;
    return panel_bytes(p) + (whole > rest ? whole : rest);
}

static void release_panel(Panel *p) {
    dnnl_memory_destroy(p->x);
    dnnl_memory_destroy(p->w);
    dnnl_memory_destroy(p->y);
    dnnl_memory_destroy(p->bias);
    dnnl_memory_destroy(p->scratch);
    dnnl_primitive_destroy(p->primitive);
}

void panel_product_free(PanelProduct *p) {
    if (!p) return;
    release_panel(&p->whole);
    release_panel(&p->rest);
    free(p);
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

/* [rows, columns]; going one column further takes `column` floats, one row further `row`. */
static int make_layout(int64_t rows, int64_t columns, int64_t row, int64_t column, dnnl_memory_desc_t *out,
                       Error *err) {
    dnnl_dims_t size = {rows, columns}, stride = {row, column};
    return dnnl_failed(dnnl_memory_desc_create_with_strides(out, 2, size, dnnl_f32, stride), "a layout", err);
}

static int make_layouts(PanelProduct *p, const Panel *panel, Layouts *l, Error *err) {
    const PanelSpec *s = &p->spec;
    const bool bias_after = s->bias && s->alpha != 1;
    const int64_t row = p->in_place ? s->columns : panel->width;
    TRY(make_layout(s->m, p->k, p->k, 1, &l->x, err));
    TRY(make_layout(p->k, panel->width, s->transposed ? 1 : row, s->transposed ? p->k : 1, &l->w, err));
    TRY(make_layout(s->m, panel->width, s->y_stride ? s->y_stride : panel->width, 1, &l->y, err));
    if (s->bias) TRY(make_layout(1, panel->width, panel->width, 1, &l->bias, err));
    p->bias_arg = bias_after ? DNNL_ARG_ATTR_MULTIPLE_POST_OP(1) | DNNL_ARG_SRC_1 : s->bias ? DNNL_ARG_BIAS : 0;
    TRY(dnnl_op_attributes(&l->attr, s->alpha, bias_after ? l->bias : NULL, s->residual, s->act, err));
    return dnnl_failed(
        dnnl_matmul_primitive_desc_create(&l->pd, p->b->engine, l->x, l->w, bias_after ? NULL : l->bias, l->y, l->attr),
        "a matrix product", err);
}

static int make_memory(const PanelProduct *p, const_dnnl_memory_desc_t md, dnnl_memory_t *out, Error *err) {
    return dnnl_failed(dnnl_memory_create(out, md, p->b->engine, NULL), "describing memory", err);
}

static int make_primitive(PanelProduct *p, Panel *panel, Layouts *l, Error *err) {
    TRY(make_layouts(p, panel, l, err));
    TRY(dnnl_failed(dnnl_primitive_create(&panel->primitive, l->pd), "creating a primitive", err));
    const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(l->pd, dnnl_query_scratchpad_md, 0);
    panel->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    TRY(make_memory(p, l->x, &panel->x, err));
    TRY(make_memory(p, l->w, &panel->w, err));
    TRY(make_memory(p, l->y, &panel->y, err));
    if (l->bias) TRY(make_memory(p, l->bias, &panel->bias, err));
    return panel->scratch_bytes ? make_memory(p, scratch, &panel->scratch, err) : 0;
}

static int make_panel(PanelProduct *p, Panel *panel, int64_t width, Error *err) {
    Layouts l = {0};
    panel->width = width;
    int code = width ? make_primitive(p, panel, &l, err) : 0;
    destroy_layouts(&l);
    return code;
}

static int64_t panel_width(int64_t n, int64_t k, int64_t unit) {
    int64_t width = PANEL_BYTES / (k * (int64_t)sizeof(float)) / WIDTH_UNIT * WIDTH_UNIT;
    if (width < NARROWEST) width = NARROWEST;
    if (width > WIDEST) width = WIDEST;
    return min_i64((width + unit - 1) / unit * unit, n);
}

int panel_product_new(CpuBackend *b, const PanelSpec *spec, PanelProduct **out, Error *err) {
    PanelProduct *p = *out = calloc(1, sizeof *p);
    if (!p) return fail(err, DRPO_E_MEMORY, "out of memory while a product is prepared");
    p->b = b;
    p->spec = *spec;
    p->n = spec->transposed ? spec->rows : spec->columns;
    p->k = spec->transposed ? spec->columns : spec->rows;
    p->in_place = cpu_weight_in_place(spec->w);
    cpu_enter(b);
    const int64_t width = panel_width(p->n, p->k, spec->unit ? spec->unit : 1);
    TRY(make_panel(p, &p->whole, width, err));
    return make_panel(p, &p->rest, p->n % width, err);
}
