/* Grid: pictures on a white sheet. See grid.h. */
#include "train/grid.h"

#include <stdlib.h>
#include <string.h>

#include "format/png.h"

enum { GAP = 2, SIDE_GAP = 10 };

int grid_new(Grid *g, int rows, int columns, int sides, int cell_height, int cell_width, Error *err) {
    *g = (Grid){.rows = rows, .columns = columns, .sides = sides, .cell_height = cell_height, .cell_width = cell_width};
    g->height = rows * (cell_height + GAP) + GAP;
    g->width = sides * columns * (cell_width + GAP) + GAP + (sides - 1) * SIDE_GAP;
    size_t bytes = (size_t)g->height * (size_t)g->width * 3;
    g->rgb = malloc(bytes);
    if (!g->rgb) return fail(err, DRPO_E_MEMORY, "out of memory for a grid of %d x %d pixels", g->width, g->height);
    memset(g->rgb, 255, bytes);
    return 0;
}

void grid_free(Grid *g) {
    free(g->rgb);
    g->rgb = NULL;
}

static uint8_t *line_of(const Grid *g, int row, int side, int column, int line) {
    int y = GAP + row * (g->cell_height + GAP) + line;
    int x = GAP + side * SIDE_GAP + (side * g->columns + column) * (g->cell_width + GAP);
    return g->rgb + ((size_t)y * (size_t)g->width + (size_t)x) * 3;
}

void grid_put(Grid *g, int row, int side, int column, const uint8_t *rgb) {
    size_t line = (size_t)g->cell_width * 3;
    for (int i = 0; i < g->cell_height; i++) memcpy(line_of(g, row, side, column, i), rgb + (size_t)i * line, line);
}

void grid_get(const Grid *g, int row, int side, int column, uint8_t *rgb) {
    size_t line = (size_t)g->cell_width * 3;
    for (int i = 0; i < g->cell_height; i++) memcpy(rgb + (size_t)i * line, line_of(g, row, side, column, i), line);
}

int grid_write(const Grid *g, const char *path, const TextPair *text, size_t n_text, Error *err) {
    return png_write_rgb(path, g->rgb, g->width, g->height, text, n_text, err);
}
