/* The reference backend: memory, weights in double precision, and the table from op to kernel. */
#include "engine/ref/ref.h"

#include <stdlib.h>
#include <string.h>

typedef struct RefParam {
    Param *param;
    double *values;
    struct RefParam *next;
    int users;
} RefParam;

typedef struct RefBackend {
    Backend base;
    RefParam *params;
} RefBackend;

static RefKernel *const kernel_of[OP_COUNT] = {
    [OP_ADD] = ref_add,
    [OP_MUL] = ref_mul,
    [OP_AFFINE] = ref_affine,
    [OP_ACT] = ref_act,
    [OP_ACT_GRAD] = ref_act_grad,
    [OP_GEGLU] = ref_geglu,
    [OP_GEGLU_GRAD] = ref_geglu_grad,
    [OP_LINEAR] = ref_linear,
    [OP_LINEAR_DX] = ref_linear_dx,
    [OP_LINEAR_DW] = ref_linear_dw,
    [OP_MATMUL] = ref_matmul,
    [OP_CONV2D] = ref_conv2d,
    [OP_CONV2D_DX] = ref_conv2d_dx,
    [OP_CONV2D_DW] = ref_conv2d_dw,
    [OP_ATTENTION] = ref_attention,
    [OP_ATTENTION_GRAD] = ref_attention_grad,
    [OP_GROUP_NORM] = ref_group_norm,
    [OP_GROUP_NORM_DX] = ref_group_norm_dx,
    [OP_GROUP_NORM_DWB] = ref_group_norm_dwb,
    [OP_LAYER_NORM] = ref_layer_norm,
    [OP_LAYER_NORM_DX] = ref_layer_norm_dx,
    [OP_LAYER_NORM_DWB] = ref_layer_norm_dwb,
    [OP_RMS_NORM] = ref_rms_norm,
    [OP_RMS_NORM_DX] = ref_rms_norm_dx,
    [OP_CONCAT] = ref_concat,
    [OP_SLICE] = ref_slice,
    [OP_PAD_AXIS] = ref_pad_axis,
    [OP_DROPOUT] = ref_dropout,
    [OP_EMBED] = ref_embed,
    [OP_EMBED_GRAD] = ref_embed_grad,
    [OP_UPSAMPLE2X] = ref_upsample2x,
    [OP_UPSAMPLE2X_GRAD] = ref_upsample2x_grad,
    [OP_SUM_TO] = ref_sum_to,
    [OP_BROADCAST_TO] = ref_broadcast_to,
    [OP_PIXEL_UNSHUFFLE] = ref_pixel_unshuffle,
    [OP_PIXEL_SHUFFLE] = ref_pixel_shuffle,
    [OP_AVG_POOL] = ref_avg_pool,
    [OP_AVG_POOL_GRAD] = ref_avg_pool_grad,
    [OP_POOL_STD] = ref_pool_std,
    [OP_POOL_STD_GRAD] = ref_pool_std_grad,
};

/* ---- kernels ---- */
typedef struct RefState {
    const Node *node;
    RefKernel *kernel;
} RefState;

static bool ref_supports(const Backend *b, const Node *n) {
    (void)b;
    return (unsigned)n->op < OP_COUNT && kernel_of[n->op];
}

static int ref_run(const Kernel *k, void *out, void *const *in, void *workspace) {
    (void)workspace;
    const RefState *state = k->state;
    double *values[MAX_INPUTS];
    for (int i = 0; i < MAX_INPUTS; i++) values[i] = i < state->node->n_in ? in[i] : NULL;
    state->kernel(state->node, out, values);
    return 0;
}

static void ref_release(Kernel *k) {
    free(k->state);
    k->state = NULL;
}

static int ref_prepare(Backend *b, const Node *n, Kernel *out, Error *err) {
    (void)b;
    RefState *state = malloc(sizeof *state);
    if (!state) return fail(err, DRPO_E_MEMORY, "out of memory for a kernel");
    *state = (RefState){n, kernel_of[n->op]};
    *out = (Kernel){.run = ref_run, .release = ref_release, .state = state};
    return 0;
}

/* ---- weights ---- */
static int fill(RefParam *p) {
    size_t count = (size_t)shape_count(p->param->shape);
    for (size_t i = 0; i < count; i++) {
        float value;
        if (p->param->dtype == DT_F64) { /* no detour through float32 for the oracle */
            memcpy(&p->values[i], (const char *)p->param->data + i * sizeof(double), sizeof(double));
            continue;
        }
        dtype_to_f32(p->param->dtype, p->param->data, i, 1, &value);
        p->values[i] = value;
    }
    return 0;
}

static RefParam *find(RefBackend *r, const Param *p) {
    RefParam *found = r->params;
    while (found && found->param != p) found = found->next;
    return found;
}

static int ref_param(Backend *b, Param *p, void **address, Error *err) {
    RefBackend *r = (RefBackend *)b;
    RefParam *known = find(r, p);
    if (!known) {
        known = calloc(1, sizeof *known);
        double *values = malloc((size_t)(shape_count(p->shape) + 1) * sizeof *values);
        if (!known || !values) {
            free(known);
            free(values);
            return fail(err, DRPO_E_MEMORY, "out of memory for weight '%s'", p->name ? p->name : "?");
        }
        *known = (RefParam){p, values, r->params, 0};
        r->params = known;
        fill(known);
    }
    known->users++;
    *address = known->values;
    return 0;
}

static void ref_forget(Backend *b, const Param *p, void *address) {
    (void)address;
    for (RefParam **at = &((RefBackend *)b)->params; *at; at = &(*at)->next) {
        RefParam *known = *at;
        if (known->param != p) continue;
        if (--known->users > 0) return;
        *at = known->next;
        free(known->values);
        free(known);
        return;
    }
}

static void ref_refresh(Backend *b, Param *p) {
    RefParam *known = find((RefBackend *)b, p);
    if (known) fill(known);
}

static size_t ref_packed_bytes(const Backend *b) {
    size_t bytes = 0;
    for (const RefParam *p = ((const RefBackend *)b)->params; p; p = p->next)
        bytes += (size_t)shape_count(p->param->shape) * sizeof(double);
    return bytes;
}

/* ---- memory ---- */
static void *ref_alloc(Backend *b, size_t bytes) {
    (void)b;
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p) memset(p, 0, bytes);
    return p;
}

static void ref_free(Backend *b, void *p, size_t bytes) {
    (void)b, (void)bytes;
    free(p);
}

static void ref_copy_in(Backend *b, const Node *n, const void *host, void *device) {
    (void)b;
    if (n->dtype == DT_I32) {
        memcpy(device, host, (size_t)shape_count(n->shape) * sizeof(int32_t));
        return;
    }
    View4 v = view4(n, device);
    const float *from = host;
    EACH4(v) * at4(&v, a, b, c, d) = *from++;
}

static void ref_copy_out(Backend *b, const Node *n, const void *device, void *host) {
    (void)b;
    View4 v = view4(n, (double *)device);
    float *to = host;
    EACH4(v) *to++ = (float)*at4(&v, a, b, c, d);
}

static void ref_destroy(Backend *b) {
    RefBackend *r = (RefBackend *)b;
    while (r->params) {
        RefParam *next = r->params->next;
        free(r->params->values);
        free(r->params);
        r->params = next;
    }
    free(r);
}

static Backend *ref_another(const Backend *b, Error *err) {
    (void)b;
    return backend_ref_new(err);
}

Backend *backend_ref_new(Error *err) {
    RefBackend *r = calloc(1, sizeof *r);
    if (!r) {
        fail(err, DRPO_E_MEMORY, "out of memory for the reference backend");
        return NULL;
    }
    r->base = (Backend){.name = "ref",
                        .real_bytes = sizeof(double),
                        .supports = ref_supports,
                        .prepare = ref_prepare,
                        .param = ref_param,
                        .forget = ref_forget,
                        .refresh = ref_refresh,
                        .alloc = ref_alloc,
                        .free = ref_free,
                        .copy_in = ref_copy_in,
                        .copy_out = ref_copy_out,
                        .destroy = ref_destroy,
                        .packed_bytes = ref_packed_bytes,
                        .another = ref_another};
    return &r->base;
}
