/* PNG files through libpng. */
#ifndef DRPO_FORMAT_PNG_H
#define DRPO_FORMAT_PNG_H

#include "format/image.h"
#include "format/pair.h"

/* rgb [height,width,3]; `text` become text chunks (keys of 1 to 79 printable ASCII characters, UTF-8 values). */
int png_write_rgb(const char *path, const uint8_t *rgb, int width, int height, const TextPair *text, size_t n_text,
                  Error *err);
/* The file's bytes in memory; the caller releases *data with free(). */
int png_encode_rgb(const uint8_t *rgb, int width, int height, const TextPair *text, size_t n_text, uint8_t **data,
                   size_t *size, Error *err);
/* Any PNG: 1-16 bits, palette, gray, alpha (shown on white). `name` is for messages. */
int png_read_rgb(const char *name, const void *data, size_t size, Image *out, Error *err);

#endif
