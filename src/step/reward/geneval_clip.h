/* Colours of objects by CLIP, as the benchmark names them: for a detector that gives boxes or masks but no colours. */
#ifndef DRPO_STEP_REWARD_GENEVAL_CLIP_H
#define DRPO_STEP_REWARD_GENEVAL_CLIP_H

#include "format/image.h"
#include "model/clip.h"
#include "step/reward/geneval.h"

typedef struct GenevalClip GenevalClip;

/* The benchmark's CLIP is OpenAI's ViT-L/14. threads 0: as many as there are cores. */
int geneval_clip_open(const ClipChoice *choice, int threads, GenevalClip **out, Error *err);
void geneval_clip_free(GenevalClip *c); /* NULL is fine */

/* Cosines of a cut-out object and the ten colours of its class. By several threads at once. */
int geneval_clip_rate(GenevalClip *c, int class, const uint8_t *rgb /* [height,width,3] */, int height, int width,
                      double cosine[GENEVAL_COLORS], Error *err);

/* CLIP sees the square in the middle of an object. Of a slender one the ends are cut off beforehand, so that resizing
 * it costs little and never fails; what CLIP sees stays the same. */
void geneval_clip_shorten(Image *crop);

/* A picture whose objects are looked at. */
typedef struct GenevalView {
    GenevalClip *clip;
    const uint8_t *rgb; /* [height,width,3] */
    int height, width;
} GenevalView;

/* A GenevalColorist; `user` is a GenevalView. A colour that the detector names is kept. */
int geneval_clip_colors(void *user, int class, const GenevalObject *const *objects, int n, int *colors, Error *err);

#endif
