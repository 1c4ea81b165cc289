/* Graph: a network as a list of nodes, written down before anything is computed.
 *
 *     Graph *g = graph_new(arena);
 *     Value x = input(g, "x", DT_F32, shape4(n, 4, 16, 16));
 *     Value y = silu(g, group_norm(g, conv2d(g, x, w, b, 1, pad_same(1)), gw, gb, 8, 1e-5f));
 *
 * Each call appends one node and infers its shape. The first mistake (a shape that does not fit, an input that is NULL)
 * is recorded in the graph; that call and all that use its result return NULL, and graph_check() reports it once.
 * Gradients are ordinary nodes too (autodiff.h). The set of ops is closed: ops.def names each with its shape rule and
 * its VJP. */
#ifndef DRPO_ENGINE_GRAPH_H
#define DRPO_ENGINE_GRAPH_H

#include "base/arena.h"
#include "engine/tensor.h"

typedef struct Graph Graph;
typedef struct Node Node;
typedef Node *Value;

typedef enum Op {
#define OP(name, ...) OP_##name,
#include "engine/ops.def"
#undef OP
    OP_COUNT
} Op;

const char *op_name(Op op);

typedef enum Act { ACT_NONE, ACT_SILU, ACT_GELU, ACT_QUICK_GELU, ACT_RELU, ACT_SQUARE, ACT_GELU_TANH, ACT_COUNT } Act;

typedef struct Pad {
    int top, left, bottom, right;
} Pad;

/* What an op needs beside its inputs. Unused fields are 0. */
typedef struct Attr {
    Act act;     /* ACT, ACT_GRAD; fused into LINEAR, CONV2D, GROUP_NORM and GROUP_NORM_DX */
    int stride;  /* CONV2D and its gradients */
    Pad pad;     /* likewise */
    int groups;  /* GROUP_NORM: groups; ATTENTION: heads */
    float eps;   /* norms, POOL_STD */
    float alpha; /* AFFINE: alpha x + beta; LINEAR, MATMUL: factor on the product; ATTENTION: factor on q.k; DROPOUT:
                    p */
    float beta;
    int axis;              /* CONCAT, SLICE, PAD_AXIS */
    int64_t start;         /* SLICE, PAD_AXIS: first index; PART: first element; DROPOUT: number of the layer */
    bool trans_a, trans_b; /* MATMUL */
    bool causal;           /* ATTENTION */
    bool floor;            /* POOL_STD: sqrt(max(var, eps)) instead of sqrt(max(var,0) + eps) */
    int pool;              /* AVG_POOL, POOL_STD, PIXEL_(UN)SHUFFLE: cell size q */
} Attr;

enum { MAX_INPUTS = 6 };

struct Node {
    Op op;
    DType dtype;
    Shape shape;
    Attr attr;
    int id; /* position in the graph's list: inputs come before users */
    int n_in;
    Value in[MAX_INPUTS]; /* optional inputs may be NULL (bias, residual) */
    Param *param;         /* PARAM only */
    const char *name;     /* inputs, outputs and whatever was named; else NULL */
    int segment;          /* recompute unit the node belongs to, 0: none */
    bool output;          /* its buffer must survive the run */
    bool backward;        /* appended by autodiff */
};

Graph *graph_new(Arena *a);
Arena *graph_arena(Graph *g);
int graph_size(const Graph *g);
Value graph_node(const Graph *g, int id);
int graph_check(const Graph *g, Error *err); /* the first mistake, or out of memory */
void graph_mistake(Graph *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
void graph_segment(Graph *g, int segment);          /* marks nodes appended from now on; 0 ends */
Value graph_find(const Graph *g, const char *name); /* input or output by name, NULL if none */
Value set_name(Graph *g, Value x, const char *format, ...) __attribute__((format(printf, 3, 4)));
Value output(Graph *g, Value x, const char *name); /* keep it; returns x */
/* The one way nodes are made: checks arity, infers the shape by ops.def's rule. For ops given no function below. */
Value append(Graph *g, Op op, Attr attr, const Value *in, int n_in, Shape target);

/* ---- leaves ---- */
Value input(Graph *g, const char *name, DType dtype, Shape shape);
Value param(Graph *g, Param *p); /* one node per Param and graph; NULL p is a mistake */

/* ---- elementwise ---- */
Value add(Graph *g, Value a, Value b);                    /* same rank; a dimension of 1 broadcasts, on either side */
Value mul(Graph *g, Value a, Value b);                    /* likewise */
Value affine(Graph *g, Value x, float alpha, float beta); /* alpha x + beta */
Value act(Graph *g, Value x, Act kind);
static inline Value silu(Graph *g, Value x) { return act(g, x, ACT_SILU); }
Value geglu(Graph *g, Value x); /* [..., 2C] -> [..., C]: first half times gelu(second half) */

/* Inverted dropout of x [N,...], rank 2-3: each value is 0 with probability p, else x / (1 - p). Which, follows from
 * the row's key and the number of the layer alone. keys I32 [N, DROPOUT_KEY]: 1 (0: x passes unchanged), low and high
 * half of the seed, step, prompt, candidate. */
enum { DROPOUT_KEY = 6 };
Value dropout(Graph *g, Value x, Value keys, float p, int layer);

/* ---- products ---- */
Value linear(Graph *g, Value x, Value w, Value b); /* x [..., in], w [out,in], b [out] or NULL -> [..., out] */
Value matmul(Graph *g, Value a, Value b, bool trans_a, bool trans_b); /* rank 2, or rank 3 with equal first dimension */
static inline Pad pad_same(int p) { return (Pad){p, p, p, p}; }
Value conv2d(Graph *g, Value x, Value w, Value b, int stride, Pad pad); /* b may be NULL */
/* q [N,Tq,H*d], k and v [N or 1, Tk, H*d] -> [N,Tq,H*d]; softmax(q k^T / sqrt(d)) v per head. */
Value attention(Graph *g, Value q, Value k, Value v, int heads, bool causal);

/* ---- norms ---- */
Value group_norm(Graph *g, Value x, Value w, Value b, int groups, float eps); /* x [N,C,H,W]; w, b [C] */
Value layer_norm(Graph *g, Value x, Value w, Value b, float eps);             /* over the last dimension of rank 2-3 */

Value rms_norm(Graph *g, Value x, Value w, float eps); /* x / sqrt(mean x^2 + eps) * w over the last dimension */

/* ---- layout ---- */
Value to_tokens(Graph *g, Value x);                      /* [N,C,H,W] -> [N,H*W,C], no copy */
Value to_image(Graph *g, Value x, int64_t h, int64_t w); /* [N,H*W,C] -> [N,C,H,W], no copy */
Value reshape(Graph *g, Value x, Shape s);               /* no copy; rank 4 only where H = W = 1 */
Value concat(Graph *g, Value a, Value b, int axis);
Value slice(Graph *g, Value x, int axis, int64_t start, int64_t length);
Value embed(Graph *g, Value ids, Value table); /* ids I32 [N,T], table [V,C] -> [N,T,C] */
Value upsample2x(Graph *g, Value x);           /* nearest, [N,C,H,W] -> [N,C,2H,2W] */

/* Cells of q x q pixels become one pixel of q*q times the channels (channel c of pixel (i,j) at c q^2 + i q + j), and
 * back. */
Value pixel_unshuffle(Graph *g, Value x, int q); /* [N,C,H,W] -> [N,C q^2,H/q,W/q] */
Value pixel_shuffle(Graph *g, Value x, int q);   /* [N,C q^2,H,W] -> [N,C,q H,q W] */

/* ---- reductions ---- */
Value sum_to(Graph *g, Value x, Shape s); /* inverse of broadcasting: sums where s has 1 */
Value broadcast_to(Graph *g, Value x, Shape s);
Value avg_pool(Graph *g, Value x, int q);                        /* cells q x q, q divides H and W: [N,C,H/q,W/q] */
Value pool_std(Graph *g, Value x, int q, float eps, bool floor); /* population std of each cell, as Attr.floor says */

#endif
