/* The picture of one object: its box cut out, everything outside its mask painted over. What colors are judged by. */
#ifndef DRPO_STEP_REWARD_GENEVAL_CROP_H
#define DRPO_STEP_REWARD_GENEVAL_CROP_H

#include "format/image.h"
#include "step/reward/geneval.h"

enum { GENEVAL_GROUND = 153 }; /* grey #999 */

/* rgb [height,width,3]; released with image_free. Corners are rounded half to even; what lies outside the picture is
 * black, as in Pillow's crop. */
int geneval_crop(const uint8_t *rgb, int height, int width, const GenevalObject *object, Image *out, Error *err);

#endif
