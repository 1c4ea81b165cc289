/* Bicubic resizing in the three ways that published models were trained with; they differ by whole grey levels.
 *
 * RESIZE_PIL is Pillow's filter (a = -0.5, widened when shrinking): resize_rgb equals it to the last bit on 8-bit
 * pictures, and torch's antialias=True is the same weights on floats. RESIZE_PLAIN is torch's antialias=False
 * (a = -0.75, always four taps). On floats a resize is a linear map, so its adjoint carries gradients back. */
#ifndef DRPO_FORMAT_RESIZE_H
#define DRPO_FORMAT_RESIZE_H

#include <stdint.h>

#include "base/error.h"

typedef enum ResizeFilter {
    RESIZE_PIL,
    RESIZE_PLAIN,
    RESIZE_LINEAR /* Pillow's and torch's antialiased bilinear filter, on floats only */
} ResizeFilter;

/* One axis: out[i] = sum over k < count[i] of weight[i * most + k] * in[first[i] + k]. */
typedef struct ResizeTaps {
    int in, out, most;
    int *first, *count; /* [out] */
    double *weight;     /* [out,most], each row sums to 1 */
} ResizeTaps;

int resize_taps_new(ResizeFilter filter, int in, int out, ResizeTaps *taps, Error *err);
void resize_taps_free(ResizeTaps *taps);

/* in [height,width,3] -> out [out_height,out_width,3], as Pillow's resize(BICUBIC). Rows are filtered first, as in
 * every version that public scores were made with; Pillow 13 begins with columns where the height shrinks much more
 * than the width. */
int resize_rgb(const uint8_t *in, int width, int height, uint8_t *out, int out_width, int out_height, Error *err);

/* A resize of float planes: both axes, made once for many pictures. */
typedef struct Resize {
    ResizeTaps x, y;
} Resize;

int resize_new(ResizeFilter filter, int width, int height, int out_width, int out_height, Resize *r, Error *err);
void resize_free(Resize *r);
/* in [planes,height,width] -> out [planes,out_height,out_width]; values are neither rounded nor clipped. */
int resize_planes(const Resize *r, const float *in, int planes, float *out, Error *err);
/* d(out) -> d(in), overwritten: the transposed map. */
int resize_planes_adjoint(const Resize *r, const float *d_out, int planes, float *d_in, Error *err);

#endif
