/* Images in memory: 8-bit RGB, rows from top to bottom. Readers refuse more than IMAGE_MAX_SIDE pixels a side. */
#ifndef DRPO_FORMAT_IMAGE_H
#define DRPO_FORMAT_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { IMAGE_MAX_SIDE = 16384, IMAGE_MAX_PIXELS = 1 << 26 };

typedef struct Image {
    int width, height;
    uint8_t *rgb; /* [height,width,3], released by image_free */
} Image;

/* PNG or JPEG, told apart by their first bytes. Transparent pixels are shown on white. */
int image_read(const char *path, Image *out, Error *err);
int image_read_memory(const char *name, const void *data, size_t size, Image *out, Error *err);
void image_free(Image *image); /* NULL and empty are fine */

/* For the readers of single formats: checks the size and allocates. */
int image_new(const char *name, long long width, long long height, Image *out, Error *err);

#endif
