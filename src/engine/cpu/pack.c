/* Packed weights: one copy per (parameter, layout), however many graphs use it. Memory for it is reserved when it is
 * asked for first, and filled at once or, when the backend defers, all together.
 *
 * A file's f16 or bf16 values become float32 on the way, or bfloat16 where products round. Trainable parameters are
 * never packed: their values change. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/cpu/cpu.h"

struct Pack {
    Pack *next;
    const Param *param;
    PackKind kind;
    const void *source; /* param->data when it was packed: a Param's address may be used again for another weight */
    dnnl_memory_desc_t layout; /* PACK_LAYOUT only */
    void *data;
    size_t bytes;                                     /* 0 where data is the file's own memory */
    bool empty;                                       /* its values are not written yet */
    int (*make)(void *user, float *data, Error *err); /* writes them where the layout is our own */
    void *user;                                       /* the first user's: it lives until they are written */
    int users;
};

bool cpu_weight_in_place(const Param *p) { return p->dtype == DT_F32 && (uintptr_t)p->data % sizeof(float) == 0; }

static bool same_layout(const_dnnl_memory_desc_t a, const_dnnl_memory_desc_t b) {
    return a && b ? dnnl_memory_desc_equal(a, b) != 0 : a == b;
}

static Pack *find(const CpuBackend *b, const Param *p, PackKind kind, const_dnnl_memory_desc_t layout) {
    for (Pack *at = *b->packs; at; at = at->next)
        if (at->param == p && at->source == p->data && at->kind == kind && same_layout(at->layout, layout)) return at;
    return NULL;
}

static int out_of_memory(const Param *p, Error *err) {
    return fail(err, DRPO_E_MEMORY, "out of memory for weight '%s'", p->name ? p->name : "(unnamed)");
}

static void fill_bf16(const CpuBackend *b, const Param *p, uint16_t *to) {
    enum { CHUNK = 4096 };
    float values[CHUNK];
    size_t n = (size_t)shape_count(p->shape);
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t some = n - at < CHUNK ? n - at : CHUNK;
        cpu_read_weight(b, p, at, some, values);
        bf16_from_floats(values, some, to + at);
    }
}

static float *plain_copy(const CpuBackend *b, const Param *p) {
    size_t n = (size_t)shape_count(p->shape);
    float *copy = aligned_alloc(64, aligned(n * sizeof(float)));
    if (copy) cpu_read_weight(b, p, 0, n, copy);
    return copy;
}

/* Row-major as the file has it: [out,in] or [out,in,kh,kw]. A matrix product sees [out,in] as the transpose of its
 * [in,out] operand. */
static dnnl_memory_desc_t file_layout(const Param *p, const_dnnl_memory_desc_t like) {
    int rank = 0;
    dnnl_memory_desc_query(like, dnnl_query_ndims_s32, &rank);
    if (rank == 2) {
        const dnnl_dims_t *dims;
        dnnl_memory_desc_query(like, dnnl_query_dims, &dims);
        return dnnl_layout(2, *dims, dnnl_ba);
    }
    return dnnl_layout(p->shape.rank, p->shape.dim, dnnl_abcd);
}

static dnnl_status_t reorder(CpuBackend *b, dnnl_memory_desc_t from, void *from_data, dnnl_memory_desc_t to,
                             void *to_data) {
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t source = NULL, target = NULL;
    dnnl_status_t status = dnnl_reorder_primitive_desc_create(&pd, from, b->engine, to, b->engine, NULL);
    if (!status) status = dnnl_primitive_create(&primitive, pd);
    if (!status) status = dnnl_memory_create(&source, from, b->engine, from_data);
    if (!status) status = dnnl_memory_create(&target, to, b->engine, to_data);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
    if (!status) status = dnnl_primitive_execute(primitive, b->stream, 2, args);
    if (!status) status = dnnl_stream_wait(b->stream);
    dnnl_memory_destroy(target);
    dnnl_memory_destroy(source);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int fill_packed(CpuBackend *b, Pack *pack, Error *err) {
    const Param *p = pack->param;
    float *values = cpu_weight_in_place(p) ? (float *)(uintptr_t)p->data : plain_copy(b, p);
    dnnl_memory_desc_t from = file_layout(p, pack->layout);
    int code = 0;
    if (!values || !from)
        code = out_of_memory(p, err);
    else
        code = dnnl_failed(reorder(b, from, values, pack->layout, pack->data), "packing a weight", err);
    dnnl_memory_desc_destroy(from);
    if (!cpu_weight_in_place(p)) free(values);
    return code;
}

/* Writes a pack's values. The file's own are not read again by who uses the pack. */
static int fill(CpuBackend *b, Pack *pack, Error *err) {
    const Param *p = pack->param;
    int code = 0;
    if (pack->kind == PACK_PLAIN)
        cpu_read_weight(b, p, 0, (size_t)shape_count(p->shape), pack->data);
    else if (pack->kind == PACK_LAYOUT)
        code = fill_packed(b, pack, err);
    else if (pack->kind == PACK_BF16)
        fill_bf16(b, p, pack->data);
    else
        code = pack->make(pack->user, pack->data, err);
    pack->empty = code < 0;
    if (p->mapped) file_drop_pages(p->data, (size_t)shape_count(p->shape) * dtype_bytes(p->dtype));
    return code;
}

static void discard(Pack *pack) {
    if (pack->bytes) free(pack->data);
    dnnl_memory_desc_destroy(pack->layout);
    free(pack);
}

static Pack *pack_new(const Param *p, PackKind kind, size_t bytes) {
    Pack *pack = calloc(1, sizeof *pack);
    if (!pack) return NULL;
    *pack = (Pack){.param = p, .kind = kind, .source = p->data, .bytes = bytes};
    if (bytes == 0) { /* only PACK_PLAIN and PACK_BF16 */
        pack->data = (void *)(uintptr_t)p->data;
        return pack;
    }
    pack->empty = true;
    pack->data = aligned_alloc(64, bytes);
    if (pack->data) return pack;
    free(pack);
    return NULL;
}

/* Hands out a pack with its values, unless they are deferred, or throws it away. */
static int finish(CpuBackend *b, Pack *pack, Pack **out, Error *err) {
    if (pack->empty && !b->deferral->on) {
        int code = fill(b, pack, err);
        if (code < 0) {
            discard(pack);
            return code;
        }
    }
    pack->next = *b->packs;
    *b->packs = *out = pack;
    pack->users = 1;
    return 0;
}

static bool found(const CpuBackend *b, const Param *p, PackKind kind, const_dnnl_memory_desc_t layout, Pack **out) {
    *out = find(b, p, kind, layout);
    if (*out) (*out)->users++;
    return *out != NULL;
}

int pack_get(CpuBackend *b, const Param *p, const_dnnl_memory_desc_t layout, Pack **out, Error *err) {
    PackKind kind = layout ? PACK_LAYOUT : PACK_PLAIN;
    if (found(b, p, kind, layout, out)) return 0;
    size_t bytes = layout ? dnnl_memory_desc_get_size(layout) : (size_t)shape_count(p->shape) * sizeof(float);
    Pack *pack = pack_new(p, kind, !layout && cpu_weight_in_place(p) ? 0 : aligned(bytes));
    if (!pack) return out_of_memory(p, err);
    if (layout && dnnl_memory_desc_clone(&pack->layout, layout)) {
        discard(pack);
        return out_of_memory(p, err);
    }
    return finish(b, pack, out, err);
}

int pack_get_bf16(CpuBackend *b, const Param *p, Pack **out, Error *err) {
    if (found(b, p, PACK_BF16, NULL, out)) return 0;
    bool there = p->dtype == DT_BF16 && (uintptr_t)p->data % sizeof(uint16_t) == 0;
    Pack *pack = pack_new(p, PACK_BF16, there ? 0 : aligned((size_t)shape_count(p->shape) * sizeof(uint16_t)));
    if (!pack) return out_of_memory(p, err);
    return finish(b, pack, out, err);
}

int pack_get_made(CpuBackend *b, const Param *p, PackKind kind, size_t bytes,
                  int (*make)(void *user, float *data, Error *err), void *user, Pack **out, Error *err) {
    if (found(b, p, kind, NULL, out)) return 0;
    Pack *pack = pack_new(p, kind, aligned(bytes));
    if (!pack) return out_of_memory(p, err);
    pack->make = make;
    pack->user = user;
    return finish(b, pack, out, err);
}

int pack_fill_all(CpuBackend *b, Error *err) {
    for (Pack *at = *b->packs; at; at = at->next)
        if (at->empty) TRY(fill(b, at, err));
    return 0;
}

bool pack_copies(const CpuBackend *b, const Param *p) {
    bool copies = false;
    for (const Pack *at = *b->packs; at; at = at->next) {
        if (at->param != p || at->source != p->data) continue;
        if (at->bytes == 0) return false;
        copies = true;
    }
    return copies;
}

size_t pack_empty_bytes(const CpuBackend *b) {
    size_t bytes = 0;
    for (const Pack *at = *b->packs; at; at = at->next) bytes += at->empty ? at->bytes : 0;
    return bytes;
}

Pack *pack_at(const CpuBackend *b, const Param *p, const void *data) {
    for (Pack *at = *b->packs; at; at = at->next)
        if (at->kind == PACK_PLAIN && at->param == p && at->data == data) return at;
    return NULL;
}

void pack_release(CpuBackend *b, Pack *pack) {
    if (!pack || --pack->users > 0) return;
    for (Pack **at = b->packs; *at; at = &(*at)->next) {
        if (*at != pack) continue;
        *at = pack->next;
        break;
    }
    discard(pack);
}

void *pack_data(const Pack *pack) { return pack->data; }

size_t pack_bytes(const CpuBackend *b) {
    size_t bytes = 0;
    for (const Pack *at = *b->packs; at; at = at->next) bytes += at->bytes;
    return bytes;
}

void pack_free_all(CpuBackend *b) {
    while (b->own_packs) {
        Pack *next = b->own_packs->next;
        discard(b->own_packs);
        b->own_packs = next;
    }
}
