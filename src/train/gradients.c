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

/* PEFT's names, or the UNet's own. */
static const char *leaf_name(const Adapter *a, int i, Arena *arena) {
    if (a->full) return lora_leaf(a, i).param->name;
    return arena_printf(arena, "base_model.model.%s.lora_%s.weight", a->pair[i / 2].module, i % 2 ? "B" : "A");
}

int gradients_write(const char *path, const Adapter *a, const float *grad, Error *err) {
    Arena *arena = arena_new();
    const int leaves = lora_leaves(a);
    SafeTensor *tensors = arena ? arena_alloc(arena, sizeof *tensors * (size_t)(leaves + 1)) : NULL;
    for (int i = 0; tensors && i < leaves; i++) {
        const AdapterLeaf leaf = lora_leaf(a, i);
        tensors[i] = tensor_of(leaf.param, leaf_name(a, i, arena), grad + leaf.offset);
    }
    int code = !tensors || arena_failed(arena) ? fail(err, DRPO_E_MEMORY, "%s: out of memory", path)
                                               : safetensors_write(path, tensors, (size_t)leaves, NULL, 0, err);
    arena_free(arena);
    return code;
}
