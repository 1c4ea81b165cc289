/* Shapes, element types and weights: the nouns that the engine and everything above it share.
 *
 * Shapes are written in PyTorch order: images [N,C,H,W], tokens [N,T,C], linear weights [out,in], convolution weights
 * [out,in,kh,kw]. In memory a rank-4 ACTIVATION is channels-last ([N,H,W,C]), so image <-> tokens costs nothing;
 * tensors of rank 1-3 are row-major. Weights keep the file's order; a backend may pack its own copy. The gradient of a
 * convolution's weight is a computed node like any other: channels-last in memory ([out,kh,kw,in]), [out,in,kh,kw] once
 * it is read. */
#ifndef DRPO_ENGINE_TENSOR_H
#define DRPO_ENGINE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { MAX_RANK = 4 };

typedef enum DType { DT_F32, DT_F16, DT_BF16, DT_F64, DT_I32, DT_I64, DT_U8, DT_BOOL, DT_COUNT } DType;

size_t dtype_bytes(DType t);
const char *dtype_name(DType t); /* "F32", as safetensors spells it */

typedef struct Shape {
    int rank; /* 0 for a scalar */
    int64_t dim[MAX_RANK];
} Shape;

Shape shape1(int64_t a);
Shape shape2(int64_t a, int64_t b);
Shape shape3(int64_t a, int64_t b, int64_t c);
Shape shape4(int64_t a, int64_t b, int64_t c, int64_t d);
int64_t shape_count(Shape s); /* number of elements */
bool shape_equal(Shape a, Shape b);
/* "[2, 4, 16, 16]" into `text`; returns it. */
const char *shape_text(Shape s, char text[96]);

/* A weight. Frozen ones point into a mapped file (any float type, unaligned allowed) or into memory that someone else
 * owns; trainable ones point at float32 values that the optimizer changes between runs. Backends key their packed
 * copies by the Param's address, so ONE Param object per weight is shared by every graph. */
typedef struct Param {
    const char *name;
    DType dtype;
    Shape shape;
    const void *data;
    bool trainable;
    bool stored;  /* linear layers keep it in its type and make float32 of a few rows at a time: slower, but a model too
                     large for float32 fits */
    bool mapped;  /* data lies in a mapped file: its pages may be dropped and come back when they are read */
    bool planned; /* set by plan_new: a kernel works on it */
    bool precise; /* products with it stay float32 on a backend that rounds (backend.h) */
} Param;

/* Reads `n` elements of a float dtype starting at element `first` as float32. */
void dtype_to_f32(DType t, const void *data, size_t first, size_t n, float *out);

#endif
