/* Tensors under new names: fused projections become views, squeezed and transposed ones get the shape of a linear
 * layer.
 */
#include "model/checkpoint_tensors.h"

#include <string.h>

#include "base/arena.h"

/* [in,out] -> [out,in], element by element of `bytes` each, into the arena. */
static int transpose(SafeTensor *t, Arena *a, Error *err) {
    if (t->rank != 2) return 0; /* its shape is refused later, by name */
    size_t bytes = dtype_bytes(t->dtype), rows = (size_t)t->dim[0], columns = (size_t)t->dim[1];
    char *to = arena_alloc(a, t->bytes ? t->bytes : 1);
    if (!to) return fail(err, DRPO_E_MEMORY, "tensor '%s': out of memory", t->name);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            memcpy(to + (j * rows + i) * bytes, (const char *)t->data + (i * columns + j) * bytes, bytes);
    t->dim[0] = (int64_t)columns;
    t->dim[1] = (int64_t)rows;
    t->data = to;
    return 0;
}

/* Part i of the three that lie one after another in the first dimension. */
static int take_part(SafeTensor *t, int i, Error *err) {
    if (t->rank < 1 || t->dim[0] % CHECKPOINT_PARTS)
        return fail(err, DRPO_E_INPUT, "tensor '%s': its first dimension is not three times a size", t->name);
    t->dim[0] /= CHECKPOINT_PARTS;
    t->bytes /= CHECKPOINT_PARTS;
    t->data = (const char *)t->data + (size_t)i * t->bytes;
    return 0;
}

static int add_tensor(WeightsParts *parts, const SafeTensor *from, const CheckpointName *to, int i, Error *err) {
    SafeTensor t = *from;
    t.name = arena_strdup(parts->arena, to->name[i]);
    if (!t.name) return fail(err, DRPO_E_MEMORY, "%s: out of memory", parts->path);
    if (to->change == NAME_SPLIT) TRY(take_part(&t, i, err));
    if (to->change == NAME_TRANSPOSE) TRY(transpose(&t, parts->arena, err));
    while (to->change == NAME_SQUEEZE && t.rank > 2 && t.dim[t.rank - 1] == 1) t.rank--;
    parts->tensor[parts->count++] = t;
    return 0;
}

int checkpoint_tensors_add(WeightsParts *parts, const SafeTensor *from, const CheckpointName *to, Error *err) {
    for (int i = 0; i < to->parts; i++) TRY(add_tensor(parts, from, to, i, err));
    return 0;
}
