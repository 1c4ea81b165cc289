/* Cuts an object out of its picture. See geneval_crop.h. */
#include "step/reward/geneval_crop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pixels of the picture that lie in the object, [height,width], 1 inside. */
static uint8_t *unroll(const GenevalObject *o, int height, int width) {
    uint8_t *inside = calloc((size_t)height * (size_t)width, 1);
    size_t at = 0;
    for (int k = 0; inside && k < o->n_runs; k++)
        for (uint32_t i = 0; i < o->runs[k]; i++, at++) /* down the columns */
            inside[(at % (size_t)height) * (size_t)width + at / (size_t)height] = k % 2;
    return inside;
}

static void copy_pixel(const uint8_t *rgb, const uint8_t *inside, int height, int width, long y, long x, uint8_t *to) {
    if (y < 0 || x < 0 || y >= height || x >= width) return; /* black */
    const size_t at = (size_t)y * (size_t)width + (size_t)x;
    if (inside && !inside[at])
        memset(to, GENEVAL_GROUND, 3);
    else
        memcpy(to, rgb + 3 * at, 3);
}

int geneval_crop(const uint8_t *rgb, int height, int width, const GenevalObject *object, Image *out, Error *err) {
    long side[4];
    *out = (Image){0};
    for (int k = 0; k < 4; k++) {
        if (!(fabs(object->box[k]) < 1e6))
            return fail(err, DRPO_E_REWARD, "an object's box lies outside every picture");
        side[k] = lrint(nearbyint(object->box[k]));
    }
    if (side[2] <= side[0] || side[3] <= side[1]) return fail(err, DRPO_E_REWARD, "an object's box is empty");
    TRY(image_new("object", side[2] - side[0], side[3] - side[1], out, err));
    uint8_t *inside = object->n_runs ? unroll(object, height, width) : NULL;
    if (object->n_runs && !inside) {
        image_free(out);
        return fail(err, DRPO_E_MEMORY, "no memory for an object's mask");
    }
    memset(out->rgb, 0, (size_t)out->width * (size_t)out->height * 3);
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++)
            copy_pixel(rgb, inside, height, width, side[1] + y, side[0] + x,
                       out->rgb + 3 * ((size_t)y * (size_t)out->width + (size_t)x));
    free(inside);
    return 0;
}
