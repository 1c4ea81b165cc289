/* From an 8-bit picture to the floats a vision network sees: the short side is resized, the middle cut out, the values
 * normalised. What processors of transformers and open_clip do with PIL pictures. */
#ifndef DRPO_FORMAT_PICTURE_PREPARE_H
#define DRPO_FORMAT_PICTURE_PREPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Where an odd margin goes: transformers floors half of it, torchvision (open_clip) rounds it to even. */
typedef enum CropRule { CROP_FLOOR, CROP_ROUND } CropRule;

typedef struct PictureRule {
    int size; /* of the square that comes out */
    CropRule crop;
    float mean[3], std[3]; /* of values in 0..1 */
} PictureRule;

extern const PictureRule picture_rule_clip;     /* 224, CROP_FLOOR */
extern const PictureRule picture_rule_imagenet; /* 224, CROP_FLOOR */

/* First pixel of `size` cut out of the middle of `length`. */
int crop_start(CropRule rule, int length, int size);
/* in [height,width,3] -> out [3,size,size] */
int picture_prepare(const PictureRule *rule, const uint8_t *rgb, int width, int height, float *out, Error *err);
/* (x / 255 - mean) / std of [n,3] pixels, as planes [3,n]. */
void pixels_normalize(const PictureRule *rule, const uint8_t *rgb, int n, float *out);

#endif
