/* JPEG files through libjpeg. */
#ifndef DRPO_FORMAT_JPEG_H
#define DRPO_FORMAT_JPEG_H

#include "format/image.h"

/* Gray, YCbCr, RGB and CMYK. Damaged or truncated data is an error, not a gray patch. `name` is for messages. */
int jpeg_read_rgb(const char *name, const void *data, size_t size, Image *out, Error *err);
/* Quality 1-100, 4:2:0. The caller releases *data with free(). */
int jpeg_encode_rgb(const uint8_t *rgb, int width, int height, int quality, uint8_t **data, size_t *size, Error *err);

#endif
