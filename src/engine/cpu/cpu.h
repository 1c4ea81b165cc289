/* The cpu backend: float32 but for products that round (bf16.c), oneDNN for convolutions and matrix products, the
 * kernels of simd/ for the rest.
 *
 * Each op_*.c prepares one family of nodes: it chooses primitives or loop bounds once, and its run() only computes. */
#ifndef DRPO_ENGINE_CPU_CPU_H
#define DRPO_ENGINE_CPU_CPU_H

#include <oneapi/dnnl/dnnl.h>

#include "engine/backend.h"
#include "engine/cpu/simd/simd.h"

typedef struct Pack Pack;

/* Memory that is promised but not filled yet. */
typedef struct Deferral {
    bool on;
    struct Block {
        struct Block *next;
        char *start;
        size_t bytes;
    } * blocks;
} Deferral;

typedef struct CpuBackend {
    Backend base;
    int threads;
    CpuOptions options;
    Bf16Unit unit;
    SimdKernels simd;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    Pack *own_packs;
    Pack **packs;                     /* list of packed weights: own_packs, or that of the backend this one shares */
    Deferral own_deferral, *deferral; /* likewise */
} CpuBackend;

typedef int Prepare(CpuBackend *b, const Node *n, Kernel *k, Error *err);
Prepare cpu_add, cpu_mul, cpu_affine, cpu_act, cpu_act_grad, cpu_geglu, cpu_geglu_grad; /* op_elementwise.c */
Prepare cpu_dropout;                                                                    /* op_dropout.c */
Prepare cpu_linear, cpu_linear_dx, cpu_linear_dw, cpu_matmul;                           /* op_product.c */
Prepare cpu_conv2d, cpu_conv2d_dx, cpu_conv2d_dw;                                       /* op_conv2d.c */
Prepare cpu_attention, cpu_attention_grad;                                              /* op_attention.c */
Prepare cpu_group_norm, cpu_group_norm_dx, cpu_group_norm_dwb;                          /* op_group_norm.c */
Prepare cpu_layer_norm, cpu_layer_norm_dx, cpu_layer_norm_dwb;                          /* op_layer_norm.c */
Prepare cpu_rms_norm, cpu_rms_norm_dx;
Prepare cpu_concat, cpu_slice, cpu_pad_axis, cpu_embed, cpu_embed_grad, cpu_upsample,
    cpu_upsample_grad;                /* op_layout.c */
Prepare cpu_sum_to, cpu_broadcast_to; /* op_reduce.c */
Prepare cpu_pixel_unshuffle, cpu_pixel_shuffle;
Prepare cpu_avg_pool, cpu_avg_pool_grad, cpu_pool_std, cpu_pool_std_grad; /* op_pool.c */

/* A zeroed state for k with b as its first member; released with free(). */
void *cpu_state(CpuBackend *b, Kernel *k, size_t bytes, Error *err);
/* OpenMP's thread count belongs to the calling thread: every run() that is parallel or calls oneDNN sets it. */
void cpu_enter(const CpuBackend *b);
/* As dtype_to_f32, with the processor's own conversion of f16 */
void cpu_read_weight(const CpuBackend *b, const Param *p, size_t first, size_t n, float *out);
void cpu_copy(const CpuBackend *b, void *to, const void *from, size_t bytes);

/* Sizes in memory order: rank 4 is [N,H,W,C] there; missing dimensions lead as 1. */
typedef struct Dims {
    int64_t d[MAX_RANK];
} Dims;
Dims cpu_dims(Shape s);
int cpu_axis(Shape s, int axis); /* position of a PyTorch axis in Dims */

/* Number of an optional input; -1: absent. */
static inline int if_there(const Node *n, int i) { return i < n->n_in && n->in[i] ? i : -1; }
static inline float *floats(void *p) { return p; }
static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* ---- packed weights (pack.c): converted and reordered once, shared by all kernels, freed with the last of them ----
 */

/* layout NULL: plain row-major float32, which costs nothing where the file is float32 already. */
int pack_get(CpuBackend *b, const Param *p, const_dnnl_memory_desc_t layout, Pack **out, Error *err);
/* Plain row-major bfloat16, which costs nothing where the file has that. */
int pack_get_bf16(CpuBackend *b, const Param *p, Pack **out, Error *err);
/* Layouts of our own: `make` writes the values, at once or when the backend commits. */
typedef enum PackKind { PACK_PLAIN, PACK_LAYOUT, PACK_BF16, PACK_WINOGRAD, PACK_WINOGRAD_DX } PackKind;
int pack_get_made(CpuBackend *b, const Param *p, PackKind kind, size_t bytes,
                  int (*make)(void *user, float *data, Error *err), void *user, Pack **out, Error *err);
int pack_fill_all(CpuBackend *b, Error *err); /* of those that were deferred */
size_t pack_empty_bytes(const CpuBackend *b);
bool pack_copies(const CpuBackend *b, const Param *p); /* every user of p has its own values */
/* The plain one with its values there; NULL: none. Looks at nothing of `p`, which may be gone. */
Pack *pack_at(const CpuBackend *b, const Param *p, const void *data);
void pack_release(CpuBackend *b, Pack *pack);
void *pack_data(const Pack *pack);
size_t pack_bytes(const CpuBackend *b);
void pack_free_all(CpuBackend *b);
bool cpu_weight_in_place(const Param *p); /* float32 that can be read where it lies */

/* ---- oneDNN calls (dnnl_op.c) ---- */
enum {
    FROM_OUT = -1,
    FROM_WORKSPACE = -2,
    FROM_FIXED = -3,
    MAX_CALLS = 3,
    MAX_CALL_ARGS = 8
}; /* or an input's number */

typedef struct DnnlCall {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arg[MAX_CALL_ARGS];
    int source[MAX_CALL_ARGS];
    size_t offset[MAX_CALL_ARGS];
    int n_arg;
} DnnlCall;

/* Primitives that one kernel executes in turn. */
typedef struct DnnlOp {
    CpuBackend *b;
    DnnlCall call[MAX_CALLS];
    int n_call;
    int residual; /* input that the result is added to, -1: none; copied to the output where it is not there already */
    size_t out_bytes, workspace;
    Pack *pack;
} DnnlOp;

DnnlOp *dnnl_op_new(CpuBackend *b, const Node *n, Kernel *k, Error *err);
size_t dnnl_op_reserve(DnnlOp *op, size_t bytes); /* workspace; returns its offset */
/* Starts a call of a primitive (pd is destroyed in any case); its scratchpad comes from the workspace. */
int dnnl_op_call(DnnlOp *op, dnnl_primitive_desc_t pd, Error *err);
/* Gives the last call an argument; md is only read. */
int dnnl_op_bind(DnnlOp *op, int arg, const_dnnl_memory_desc_t md, int source, size_t offset, void *fixed, Error *err);
int dnnl_failed(dnnl_status_t status, const char *what, Error *err);
/* residual (sum), factor on the product, activation, with the scratchpad left to the caller */
int dnnl_op_attributes(dnnl_primitive_attr_t *out, float alpha, const_dnnl_memory_desc_t bias_after, bool residual,
                       Act act, Error *err);
dnnl_memory_desc_t dnnl_layout(int rank, const int64_t *dims,
                               dnnl_format_tag_t tag); /* float32; NULL when out of memory */
dnnl_memory_desc_t dnnl_layout_of(dnnl_data_type_t type, int rank, const int64_t *dims, dnnl_format_tag_t tag);

/* ---- products in bfloat16 (bf16.c) ---- */
/* The node is a layer (not a gradient of weights) whose weight, input 1, is rounded, and so is what it multiplies. */
bool cpu_rounds(const CpuBackend *b, const Node *n);
/* Adds a call that writes input `i`, [count] floats, as bfloat16 into the workspace at *offset. */
int dnnl_op_round(DnnlOp *op, int i, int64_t count, size_t *offset, Error *err);
void bf16_from_floats(const float *from, size_t n, uint16_t *to);

/* 3x3 convolutions by Winograd's method, forward and DX (op_winograd.c) */
bool cpu_winograd_fits(const CpuBackend *b, const Node *n);
Prepare cpu_winograd;

/* ---- products with a weight as its file has it (panel.c) ---- */
typedef struct PanelSpec {
    const Param *w;
    int64_t rows, columns; /* w as a matrix */
    int64_t m;             /* rows of x and y */
    bool transposed;       /* y [m,rows] = x w^T; else y [m,columns] = x w */
    int64_t unit;          /* panels are multiples of so many columns of y; 0: of one */
    int64_t y_stride;      /* floats between rows of y; 0: every panel's y is a matrix of its own */
    float alpha;
    Act act;
    bool bias, residual; /* residual: added to what y holds */
} PanelSpec;
typedef struct PanelProduct PanelProduct;
/* Freed also after a failure. */
int panel_product_new(CpuBackend *b, const PanelSpec *spec, PanelProduct **out, Error *err);
void panel_product_free(PanelProduct *p);
size_t panel_product_workspace(const PanelProduct *p);
int64_t panel_product_width(const PanelProduct *p); /* columns of y that one run makes; fewer at the end */
/* Columns of y from `first` on. y: where the panel's first one goes; bias: of all columns, or NULL. */
int panel_product_run(const PanelProduct *p, int64_t first, float *y, const float *x, const float *bias,
                      void *workspace);

/* LINEAR and LINEAR_DX with a weight that stays in its stored type (op_stored.c) */
bool cpu_is_stored(const Node *n);
Prepare cpu_linear_stored;

/* Convolutions with few pixels and a large frozen weight, forward and DX (op_columns.c) */
bool cpu_columns_fit(const Node *n);
Prepare cpu_columns;

/* A convolution that is a matrix product: 1x1, stride 1, no padding. */
int cpu_product_of_conv(CpuBackend *b, const Node *n, Kernel *k, Error *err);

#endif
