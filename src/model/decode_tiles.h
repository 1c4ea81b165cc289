/* Decode tiles: where the tiles of a large picture lie along one side, and how much each counts at every pixel.
 *
 * All tiles have one size, so one planned graph decodes them all. They are spread evenly, neighbours overlap by a
 * quarter of a tile or more, and where they overlap their weights change over linearly; everywhere they sum to 1. */
#ifndef DRPO_MODEL_DECODE_TILES_H
#define DRPO_MODEL_DECODE_TILES_H

#include <stddef.h>

#include "base/error.h"

typedef struct DecodeTiles {
    int count, tile, factor; /* tile: in latents */
    int *start;              /* [count] first latent */
    float *weight;           /* [count, tile * factor] */
} DecodeTiles;

/* size: latents along this side, more than `tile`. */
int decode_tiles_new(int size, int tile, int factor, DecodeTiles *out, Error *err);
void decode_tiles_free(DecodeTiles *t);

/* canvas [3,H,W] += tile [3,tile f,tile f], weighted, at tile (row, column). */
typedef struct DecodeGrid {
    DecodeTiles rows, columns;
} DecodeGrid;
void decode_tiles_add(const DecodeGrid *g, int row, int column, const float *tile, float *canvas, size_t height,
                      size_t width);

#endif
