/* CLIP passes: texts and pictures -> embeddings, and back from an embedding's gradient to the picture's pixels.
 *
 * Networks are planned for a batch when it is first asked for and kept. Embeddings are as the projection gives them,
 * not normalised. Not for use by two threads at once. */
#ifndef DRPO_MODEL_CLIP_PASS_H
#define DRPO_MODEL_CLIP_PASS_H

#include "engine/backend.h"
#include "format/picture_prepare.h"
#include "model/clip.h"

enum {
    CLIP_BATCH = 8,               /* pictures that go through the tower together at most */
    CLIP_GRADIENT_BYTES = 1 << 30 /* of activations that a gradient keeps; above it blocks are computed again */
};

typedef struct ClipPass ClipPass;

/* `rule`: how pictures are prepared; its size must be the tower's. All three outlive the pass. */
int clip_pass_new(ClipModel *m, Backend *b, const PictureRule *rule, ClipPass **out, Error *err);
void clip_pass_free(ClipPass *p); /* NULL is fine */

/* Plans what so many pictures and, with a tokenizer, texts will need, before any is asked about; nothing is filled
 * where the backend defers. */
int clip_pass_plan(ClipPass *p, int pictures, bool gradient, Error *err);
/* What filling will take; `texts`: how many different ones there will be. *mapped: bytes read in the files. */
size_t clip_pass_pending(const ClipPass *p, size_t texts, size_t *mapped);

/* *embedding [projection] stays valid until the next call; texts are remembered, so that one is encoded once. */
int clip_pass_text(ClipPass *p, const char *text, const float **embedding, Error *err);
/* rgb [n,height,width,3] -> embeddings [n,projection] */
int clip_pass_pictures(ClipPass *p, const uint8_t *rgb, int n, int height, int width, float *embeddings, Error *err);

/* One picture of floats, differentiably: clamped to [-1,1], resized straight to the tower's square with Pillow's filter
 * but without rounding, normalised. Then d(embedding) [projection] -> d(pixels) [3,height,width] of the same picture.
 */
int clip_pass_pixels(ClipPass *p, const float *image /* [3,height,width] */, int height, int width, float *embedding,
                     Error *err);
int clip_pass_pixels_gradient(ClipPass *p, const float *d_embedding, float *d_image, Error *err);

#endif
