/* Small things that every op of the cpu backend needs. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"

static void free_state(Kernel *k) {
    free(k->state);
    k->state = NULL;
}

void *cpu_state(CpuBackend *b, Kernel *k, size_t bytes, Error *err) {
    CpuBackend **state = calloc(1, bytes);
    if (!state) {
        fail(err, DRPO_E_MEMORY, "out of memory while a kernel is prepared");
        return NULL;
    }
    *state = b;
    k->state = state;
    k->release = free_state;
    return state;
}

void cpu_enter(const CpuBackend *b) {
    if (omp_get_max_threads() != b->threads) omp_set_num_threads(b->threads);
}

/* bf16 is the upper half of a float32; memcpy because a mapped file's tensors need not be aligned. */
static void brain_to_float(float *out, const char *from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, 2);
        uint32_t bits = (uint32_t)half << 16;
        memcpy(out + i, &bits, 4);
    }
}

void cpu_read_weight(const CpuBackend *b, const Param *p, size_t first, size_t n, float *out) {
    if (p->dtype == DT_BF16)
        brain_to_float(out, (const char *)p->data + 2 * first, n);
    else if (p->dtype == DT_F16 && b->simd.half_to_float)
        b->simd.half_to_float(out, (const char *)p->data + 2 * first, n);
    else
        dtype_to_f32(p->dtype, p->data, first, n, out);
}

void cpu_copy(const CpuBackend *b, void *to, const void *from, size_t bytes) {
    const size_t piece = 1 << 18;
    int64_t pieces = (int64_t)((bytes + piece - 1) / piece);
#pragma omp parallel for num_threads(b->threads) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++) {
        size_t at = (size_t)i * piece;
        memcpy((char *)to + at, (const char *)from + at, bytes - at < piece ? bytes - at : piece);
    }
}

Dims cpu_dims(Shape s) {
    Dims m = {{1, 1, 1, 1}};
    if (s.rank == 4) return (Dims){{s.dim[0], s.dim[2], s.dim[3], s.dim[1]}};
    for (int i = 0; i < s.rank; i++) m.d[MAX_RANK - s.rank + i] = s.dim[i];
    return m;
}

int cpu_axis(Shape s, int axis) {
    static const int channels_last[MAX_RANK] = {0, 3, 1, 2};
    return s.rank == 4 ? channels_last[axis] : MAX_RANK - s.rank + axis;
}
