/* Grid: a sheet of pictures, one row per prompt, base on the left and tuned on the right. */
#ifndef DRPO_TRAIN_GRID_H
#define DRPO_TRAIN_GRID_H

#include <stdint.h>

#include "base/error.h"
#include "format/pair.h"

typedef struct Grid {
    int rows, columns; /* pictures of one side in a row */
    int sides;         /* 1, or 2 for base beside tuned */
    int cell_height, cell_width, height, width;
    uint8_t *rgb; /* [height,width,3] */
} Grid;

int grid_new(Grid *g, int rows, int columns, int sides, int cell_height, int cell_width, Error *err);
void grid_free(Grid *g);
/* rgb [cell_height,cell_width,3] */
void grid_put(Grid *g, int row, int side, int column, const uint8_t *rgb);
void grid_get(const Grid *g, int row, int side, int column, uint8_t *rgb); /* what was put there */
int grid_write(const Grid *g, const char *path, const TextPair *text, size_t n_text, Error *err);

#endif
