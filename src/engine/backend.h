/* The seam between graphs and devices. Everything device-specific lives behind this struct, in engine/<backend>/.
 *
 * ref: naive loops in double precision, the oracle of the tests. cpu: oneDNN for convolutions and matrix products, own
 * kernels for the rest, float32. A backend stores "real" values in elements of real_bytes (ref 8, cpu 4); integers are
 * int32. The cpu backend can round both factors of products with frozen weights to bfloat16 and add up in float32
 * (cpu/bf16.c); values between kernels are float32 also then. */
#ifndef DRPO_ENGINE_BACKEND_H
#define DRPO_ENGINE_BACKEND_H

#include "engine/graph.h"

typedef struct Backend Backend;
typedef struct Kernel Kernel;

/* One prepared node: chosen once at plan time, run many times. */
struct Kernel {
    /* in[i] is NULL for an absent optional input and for a parameter of `packed`; other PARAM inputs point at what
     * Backend.param gave when the plan was made. Returns 0 or a negative code. */
    int (*run)(const Kernel *k, void *out, void *const *in, void *workspace);
    void (*release)(Kernel *k); /* frees state; may be NULL */
    void *state;
    size_t workspace; /* bytes of scratch needed while running */
    unsigned packed;  /* bit i set by prepare: input i is a parameter of which the kernel keeps its own (packed) copy */
};

struct Backend {
    const char *name;
    size_t real_bytes;
    bool (*supports)(const Backend *b, const Node *n);
    int (*prepare)(Backend *b, const Node *n, Kernel *out, Error *err);
    /* Address of a parameter's values in this backend's element type, converted or copied once per Param (frozen) or
     * refreshed by refresh() (trainable). */
    int (*param)(Backend *b, Param *p, void **address, Error *err);
    /* An address that param gave is no longer used; once for each time. `p` itself may be gone by then. */
    void (*forget)(Backend *b, const Param *p, void *address);
    void (*refresh)(Backend *b, Param *p);    /* a trainable Param's values have changed; may be NULL */
    void *(*alloc)(Backend *b, size_t bytes); /* 64-byte aligned, pages touched */
    void (*free)(Backend *b, void *p, size_t bytes);
    /* Host float32/int32 <-> device elements. Rank-4 activations cross as NCHW on the host side. */
    void (*copy_in)(Backend *b, const Node *n, const void *host, void *device);
    void (*copy_out)(Backend *b, const Node *n, const void *device, void *host);
    void (*sync)(Backend *b); /* may be NULL */
    /* Another backend over the same packed weights, for plans that a second host thread runs at the same time. Plans
     * are made by one thread; the backend they share outlives its shares. NULL: there is none. */
    Backend *(*share)(Backend *b, int threads, Error *err);
    void (*destroy)(Backend *b);
    size_t (*packed_bytes)(const Backend *b); /* memory held for packed weights */
    /* The backend keeps its own copy of a weight's values and does not read the weight any more; NULL: always. */
    bool (*copies)(const Backend *b, const Param *p);
    /* ---- looking before leaping; NULL where a backend cannot ---- */
    /* From now on plans can be made and bound, but weights are packed and memory is filled only by commit, which must
     * come before the first run. So it is known what a run needs before it is taken. */
    void (*defer)(Backend *b);
    int (*commit)(Backend *b, Error *err);     /* fine when nothing was deferred */
    size_t (*pending_bytes)(const Backend *b); /* what commit will take */
    /* A backend of the same kind and threads that shares nothing; deferred if this one was. */
    Backend *(*another)(const Backend *b, Error *err);
    /* Frozen weights are rounded in products: W + delta must not become one weight, which would lose most of delta. */
    bool rounds;
};

/* True where prepare()d kernels of this op may write their output over input `i` (elementwise ops, residuals). Plan
 * asks it. */
bool op_may_overwrite(const Node *n, int i);
bool op_is_view(Op op);

int backend_commit(Backend *b, Error *err); /* what may be NULL, done nothing for */
size_t backend_pending(const Backend *b);
Backend *backend_ref_new(Error *err);
Backend *backend_cpu_new(int threads, Error *err); /* float32; threads 0: threads_default() */

typedef struct CpuOptions {
    int threads; /* 0: threads_default() */
    bool bf16;   /* refused where backend_cpu_bf16 says BF16_NONE */
    bool exact;  /* no Winograd convolutions */
} CpuOptions;
Backend *backend_cpu_open(const CpuOptions *o, Error *err);
/* What there is for products of bfloat16: nothing; AVX-512, which turns them into float32 on the way; its instruction
 * for pairs of them; AMX. */
typedef enum Bf16Unit { BF16_NONE, BF16_EMULATED, BF16_VECTORS, BF16_TILES } Bf16Unit;
Bf16Unit backend_cpu_bf16(void);
void backend_free(Backend *b);

#endif
