/* The cpu backend's struct: memory, weights, transfers, and the table from ops to the functions that prepare them.
 *
 * The instruction set is chosen here; the environment variable DRPO_ISA (generic, avx2, avx512) forces one that the
 * processor has. Denormals are left as they are: the caller's thread state is not ours, and the kernels never make any
 * on purpose (exp2_of flushes them). */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/threads.h"
#include "engine/cpu/cpu.h"

static Prepare *const prepare_table[OP_COUNT] = {
    [OP_ADD] = cpu_add,
    [OP_MUL] = cpu_mul,
    [OP_AFFINE] = cpu_affine,
    [OP_ACT] = cpu_act,
    [OP_ACT_GRAD] = cpu_act_grad,
    [OP_GEGLU] = cpu_geglu,
    [OP_GEGLU_GRAD] = cpu_geglu_grad,
    [OP_LINEAR] = cpu_linear,
    [OP_LINEAR_DX] = cpu_linear_dx,
    [OP_LINEAR_DW] = cpu_linear_dw,
    [OP_MATMUL] = cpu_matmul,
    [OP_CONV2D] = cpu_conv2d,
    [OP_CONV2D_DX] = cpu_conv2d_dx,
    [OP_CONV2D_DW] = cpu_conv2d_dw,
    [OP_ATTENTION] = cpu_attention,
    [OP_ATTENTION_GRAD] = cpu_attention_grad,
    [OP_GROUP_NORM] = cpu_group_norm,
    [OP_GROUP_NORM_DX] = cpu_group_norm_dx,
    [OP_GROUP_NORM_DWB] = cpu_group_norm_dwb,
    [OP_LAYER_NORM] = cpu_layer_norm,
    [OP_LAYER_NORM_DX] = cpu_layer_norm_dx,
    [OP_LAYER_NORM_DWB] = cpu_layer_norm_dwb,
    [OP_RMS_NORM] = cpu_rms_norm,
    [OP_RMS_NORM_DX] = cpu_rms_norm_dx,
    [OP_CONCAT] = cpu_concat,
    [OP_SLICE] = cpu_slice,
    [OP_PAD_AXIS] = cpu_pad_axis,
    [OP_DROPOUT] = cpu_dropout,
    [OP_EMBED] = cpu_embed,
    [OP_EMBED_GRAD] = cpu_embed_grad,
    [OP_UPSAMPLE2X] = cpu_upsample,
    [OP_UPSAMPLE2X_GRAD] = cpu_upsample_grad,
    [OP_SUM_TO] = cpu_sum_to,
    [OP_BROADCAST_TO] = cpu_broadcast_to,
    [OP_PIXEL_UNSHUFFLE] = cpu_pixel_unshuffle,
    [OP_PIXEL_SHUFFLE] = cpu_pixel_shuffle,
    [OP_AVG_POOL] = cpu_avg_pool,
    [OP_AVG_POOL_GRAD] = cpu_avg_pool_grad,
    [OP_POOL_STD] = cpu_pool_std,
    [OP_POOL_STD_GRAD] = cpu_pool_std_grad,
};

static bool supports(const Backend *b, const Node *n) {
    (void)b;
    return (unsigned)n->op < OP_COUNT && prepare_table[n->op];
}

static int prepare(Backend *b, const Node *n, Kernel *out, Error *err) {
    *out = (Kernel){0};
    if (!supports(b, n)) return fail(err, DRPO_E_INTERNAL, "the cpu backend has no kernel for this op");
    return prepare_table[n->op]((CpuBackend *)b, n, out, err);
}

/* Trainable values are read in place, so the optimizer's changes need no refresh. */
static int weight_address(Backend *b, Param *p, void **address, Error *err) {
    if (p->trainable) {
        if (p->dtype != DT_F32)
            return fail(err, DRPO_E_INTERNAL, "trainable weight '%s' must be float32", p->name ? p->name : "(unnamed)");
        *address = (void *)(uintptr_t)p->data;
        return 0;
    }
    Pack *pack = NULL;
    TRY(pack_get((CpuBackend *)b, p, NULL, &pack, err));
    *address = pack_data(pack);
    return 0;
}

static void forget_weight(Backend *b, const Param *p, void *address) {
    pack_release((CpuBackend *)b, pack_at((CpuBackend *)b, p, address));
}

/* ---- memory ---- */
enum { HUGE_PAGE = 2 << 20, PAGE = 4096 };

static void touch(char *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += PAGE) p[i] = 0;
}

static void *allocate(Backend *base, size_t bytes) {
    Deferral *d = ((CpuBackend *)base)->deferral;
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64, size = (bytes + align - 1) / align * align;
    char *p = aligned_alloc(align, size ? size : align);
    if (!p) return NULL;
    if (align == HUGE_PAGE) (void)madvise(p, size, MADV_HUGEPAGE); /* advice only: failing is harmless */
    struct Block *block = d->on ? malloc(sizeof *block) : NULL;
    if (block) {
        *block = (struct Block){d->blocks, p, size};
        d->blocks = block;
    } else {
        touch(p, size);
    }
    return p;
}

static void release(Backend *base, void *p, size_t bytes) {
    Deferral *d = ((CpuBackend *)base)->deferral;
    (void)bytes;
    for (struct Block **at = &d->blocks; *at; at = &(*at)->next) {
        if ((*at)->start != p) continue;
        struct Block *gone = *at;
        *at = gone->next;
        free(gone);
        break;
    }
    free(p);
}

/* ---- looking before leaping ---- */
static void defer(Backend *b) { ((CpuBackend *)b)->deferral->on = true; }

/* Weights first: what converting them takes for a moment is free again before the rest is touched. */
static int commit(Backend *base, Error *err) {
    CpuBackend *b = (CpuBackend *)base;
    Deferral *d = b->deferral;
    if (!d->on) return 0;
    TRY(pack_fill_all(b, err));
    while (d->blocks) {
        struct Block *block = d->blocks;
        d->blocks = block->next;
        touch(block->start, block->bytes);
        free(block);
    }
    d->on = false;
    return 0;
}

static size_t pending_bytes(const Backend *base) {
    const CpuBackend *b = (const CpuBackend *)base;
    size_t bytes = pack_empty_bytes(b);
    for (const struct Block *at = b->deferral->blocks; at; at = at->next) bytes += at->bytes;
    return bytes;
}

static bool copies(const Backend *b, const Param *p) { return pack_copies((const CpuBackend *)b, p); }

/* ---- transfers: NCHW on the host, channels-last here ---- */
typedef struct Planes {
    int64_t images, channels, pixels;
} Planes;

static Planes planes_of(Shape s) {
    if (s.rank == 4) return (Planes){s.dim[0], s.dim[1], s.dim[2] * s.dim[3]};
    return (Planes){1, 1, shape_count(s)};
}

static void copy_in(Backend *b, const Node *n, const void *host, void *device) {
    (void)b;
    Planes s = planes_of(n->shape);
    if (n->dtype == DT_I32 || s.channels == 1 || s.pixels == 1) {
        memcpy(device, host, (size_t)shape_count(n->shape) * sizeof(float));
        return;
    }
    const float *from = host; /* [N,C,H,W] */
    float *to = device;
    for (int64_t i = 0; i < s.images; i++, from += s.channels * s.pixels, to += s.channels * s.pixels)
        for (int64_t p = 0; p < s.pixels; p++)
            for (int64_t c = 0; c < s.channels; c++) to[p * s.channels + c] = from[c * s.pixels + p];
}

static void copy_out(Backend *b, const Node *n, const void *device, void *host) {
    (void)b;
    Planes s = planes_of(n->shape);
    if (n->dtype == DT_I32 || n->op == OP_PARAM || s.channels == 1 || s.pixels == 1) {
        memcpy(host, device, (size_t)shape_count(n->shape) * sizeof(float));
        return;
    }
    const float *from = device;
    float *to = host; /* [N,C,H,W] */
    for (int64_t i = 0; i < s.images; i++, from += s.channels * s.pixels, to += s.channels * s.pixels)
        for (int64_t c = 0; c < s.channels; c++)
            for (int64_t p = 0; p < s.pixels; p++) to[c * s.pixels + p] = from[p * s.channels + c];
}

static size_t packed_bytes(const Backend *b) { return pack_bytes((const CpuBackend *)b); }

static void destroy(Backend *base) {
    CpuBackend *b = (CpuBackend *)base;
    pack_free_all(b);
    for (struct Block *at = b->own_deferral.blocks, *next; at; at = next) {
        next = at->next;
        free(at);
    }
    dnnl_stream_destroy(b->stream);
    dnnl_engine_destroy(b->engine);
    free(b);
}

/* ---- start ---- */
typedef struct Isa {
    const char *name;
    void (*fill)(SimdKernels *k);
} Isa;

/* Best first. */
static int available_isas(Isa out[3]) {
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        out[n++] = (Isa){"avx512", simd_kernels_avx512};
    /* every processor with AVX2 has F16C */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out[n++] = (Isa){"avx2", simd_kernels_avx2};
#endif
    out[n++] = (Isa){"generic", simd_kernels_generic};
    return n;
}

static int choose_isa(SimdKernels *out, Error *err) {
    Isa isa[3];
    int n = available_isas(isa);
    const char *wanted = getenv("DRPO_ISA");
    for (int i = 0; i < n; i++) {
        if (wanted && *wanted && strcmp(wanted, isa[i].name)) continue;
        isa[i].fill(out);
        return 0;
    }
    return fail(err, DRPO_E_INPUT, "DRPO_ISA=%s: not available here; use generic, avx2 or avx512, or unset it", wanted);
}

static int start(CpuBackend *b, int threads, Error *err) {
    b->threads = threads;
    cpu_enter(b);
    TRY(dnnl_failed(dnnl_engine_create(&b->engine, dnnl_cpu, 0), "starting", err));
    return dnnl_failed(dnnl_stream_create(&b->stream, b->engine, dnnl_stream_in_order), "starting", err);
}

static CpuBackend *allocate_backend(Error *err) {
    CpuBackend *b = calloc(1, sizeof *b);
    if (!b) fail(err, DRPO_E_MEMORY, "out of memory for the cpu backend");
    return b;
}

static Backend *share(Backend *base, int threads, Error *err) {
    const CpuBackend *from = (CpuBackend *)base;
    CpuBackend *b = allocate_backend(err);
    if (!b) return NULL;
    b->base = from->base;
    b->options = from->options;
    b->options.threads = threads;
    b->unit = from->unit;
    b->simd = from->simd;
    b->packs = from->packs;
    b->deferral = from->deferral;
    if (start(b, threads, err) == 0) return &b->base;
    destroy(&b->base);
    return NULL;
}

static Backend *another(const Backend *base, Error *err) {
    const CpuBackend *b = (const CpuBackend *)base;
    Backend *new = backend_cpu_open(&b->options, err);
    if (new && b->deferral->on) defer(new);
    return new;
}

Backend *backend_cpu_new(int threads, Error *err) { return backend_cpu_open(&(CpuOptions){.threads = threads}, err); }

Backend *backend_cpu_open(const CpuOptions *o, Error *err) {
    CpuBackend *b = allocate_backend(err);
    if (!b) return NULL;
    b->base = (Backend){.name = "cpu",
                        .real_bytes = sizeof(float),
                        .supports = supports,
                        .prepare = prepare,
                        .param = weight_address,
                        .forget = forget_weight,
                        .alloc = allocate,
                        .free = release,
                        .copy_in = copy_in,
                        .copy_out = copy_out,
                        .share = share,
                        .destroy = destroy,
                        .packed_bytes = packed_bytes,
                        .copies = copies,
                        .defer = defer,
                        .commit = commit,
                        .pending_bytes = pending_bytes,
                        .another = another,
                        .rounds = o->bf16};
    b->packs = &b->own_packs;
    b->deferral = &b->own_deferral;
    b->options = *o;
    b->options.threads = o->threads > 0 ? o->threads : threads_default();
    b->unit = backend_cpu_bf16();
    int code = choose_isa(&b->simd, err);
    if (code == 0 && o->bf16 && b->unit == BF16_NONE)
        code = fail(err, DRPO_E_INPUT, "bfloat16 needs a processor with AVX-512 (and ONEDNN_MAX_CPU_ISA to allow it)");
    if (code == 0) code = start(b, b->options.threads, err);
    if (code == 0) return &b->base;
    destroy(&b->base);
    return NULL;
}
