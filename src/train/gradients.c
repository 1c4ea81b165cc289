/* Gradients of an adapter as a file. See gradients.h. */
#include "train/gradients.h"

#include "base/arena.h"
#include "format/safetensors.h"

static SafeTensor tensor_of(const Param *p, const char *name, const float *grad) {
    SafeTensor t = {.name = name,
                    .dtype = DT_F32,
                    .rank = p->shape.rank,
                    .data = grad,
                    .bytes = (size_t)shape_count(p->shape) * sizeof(float)};
    for (int i = 0; i < p->shape.rank; i++) t.dim[i] = p->shape.dim[i];
    return t;
}

int gradients_write(const char *path, const Adapter *a, const float *grad, Error *err) {
    Arena *arena = arena_new();
    SafeTensor *tensors = arena ? arena_alloc(arena, sizeof *tensors * 2 * (size_t)a->n_pair) : NULL;
    for (int i = 0; tensors && i < a->n_pair; i++) {
        const LoraPair *p = &a->pair[i];
        tensors[2 * i] =
            tensor_of(&p->a, arena_printf(arena, "base_model.model.%s.lora_A.weight", p->module), grad + p->offset_a);
        tensors[2 * i + 1] =
            tensor_of(&p->b, arena_printf(arena, "base_model.model.%s.lora_B.weight", p->module), grad + p->offset_b);
    }
    int code = !tensors || arena_failed(arena) ? fail(err, DRPO_E_MEMORY, "%s: out of memory", path)
                                               : safetensors_write(path, tensors, 2 * (size_t)a->n_pair, NULL, 0, err);
    arena_free(arena);
    return code;
}
