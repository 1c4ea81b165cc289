/* Pictures as networks want them: resize (to the last bit as Pillow does), centre crop, normalisation. */
#include "format/picture_prepare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/resize.h"

const PictureRule picture_rule_clip = {
    224,
    CROP_FLOOR,
    {0.48145466f, 0.4578275f, 0.40821073f},
    {0.26862954f, 0.26130258f, 0.27577711f},
};
const PictureRule picture_rule_imagenet = {224, CROP_FLOOR, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};

int crop_start(CropRule rule, int length, int size) {
    const int margin = length - size;
    return rule == CROP_FLOOR ? margin / 2 : (int)nearbyint(margin / 2.0);
}

void pixels_normalize(const PictureRule *rule, const uint8_t *rgb, int n, float *out) {
    for (int c = 0; c < 3; c++) {
        float value[256];
        for (int v = 0; v < 256; v++) value[v] = ((float)v / 255.0f - rule->mean[c]) / rule->std[c];
        for (int i = 0; i < n; i++) *out++ = value[rgb[i * 3 + c]];
    }
}

/* The square in the middle of [height,width,3]. */
static void cut_middle(const PictureRule *rule, const uint8_t *rgb, int width, int height, uint8_t *out) {
    const int left = crop_start(rule->crop, width, rule->size), top = crop_start(rule->crop, height, rule->size);
    const size_t row = (size_t)rule->size * 3;
    for (int y = 0; y < rule->size; y++)
        memcpy(out + (size_t)y * row, rgb + ((size_t)(top + y) * (size_t)width + (size_t)left) * 3, row);
}

int picture_prepare(const PictureRule *rule, const uint8_t *rgb, int width, int height, float *out, Error *err) {
    const int size = rule->size, small = width < height ? width : height, large = width < height ? height : width;
    const long long other = small > 0 ? (long long)size * large / small : 0;
    if (other < 1 || other > 16384)
        return fail(err, DRPO_E_INPUT, "a picture of %d x %d cannot be resized to %d pixels a side", width, height,
                    size);
    const int wide = width < height ? size : (int)other, high = width < height ? (int)other : size;
    uint8_t *resized = malloc((size_t)wide * (size_t)high * 3), *middle = malloc((size_t)size * (size_t)size * 3);
    int code = resized && middle ? 0 : fail(err, DRPO_E_MEMORY, "no memory to resize a picture");
    if (code == 0) code = resize_rgb(rgb, width, height, resized, wide, high, err);
    if (code == 0) {
        cut_middle(rule, resized, wide, high, middle);
        pixels_normalize(rule, middle, size * size, out);
    }
    free(resized);
    free(middle);
    return code;
}
