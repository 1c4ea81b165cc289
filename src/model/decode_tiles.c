/* Decode tiles: positions and weights. See decode_tiles.h. */
#include "model/decode_tiles.h"

#include <stdlib.h>

/* Where a neighbour takes over, as a share of it: 0 before the zone around `middle`, 1 after it. */
static float taken_over(double at, double middle, double zone) {
    double share = (at - middle) / zone + 0.5;
    return share < 0 ? 0.0f : share > 1 ? 1.0f : (float)share;
}

/* Tiles i and i + 1 change over around the middle of what both cover, in a zone that touches no third tile's. */
static void set_weights(DecodeTiles *t) {
    int f = t->factor, pixels = t->tile * f;
    double zone = (double)(t->tile / 4 * f); /* no wider than what they share */
    for (int i = 0; i < t->count; i++)
        for (int p = 0; p < pixels; p++) {
            double at = (double)t->start[i] * f + p + 0.5;
            float w = 1;
            if (i > 0) w *= taken_over(at, 0.5 * f * (t->start[i - 1] + t->start[i] + t->tile), zone);
            if (i + 1 < t->count) w *= 1 - taken_over(at, 0.5 * f * (t->start[i] + t->start[i + 1] + t->tile), zone);
            t->weight[(size_t)i * (size_t)pixels + (size_t)p] = w;
        }
}

int decode_tiles_new(int size, int tile, int factor, DecodeTiles *out, Error *err) {
    int stride = tile - tile / 4, rest = size - tile;
    *out = (DecodeTiles){.count = 1 + (rest + stride - 1) / stride, .tile = tile, .factor = factor};
    out->start = calloc((size_t)out->count, sizeof *out->start);
    out->weight = calloc((size_t)out->count * (size_t)(tile * factor), sizeof *out->weight);
    if (!out->start || !out->weight) return fail(err, DRPO_E_MEMORY, "decoder: out of memory");
    for (int i = 1; i < out->count; i++) out->start[i] = (int)((long)i * rest / (out->count - 1));
    set_weights(out);
    return 0;
}

void decode_tiles_free(DecodeTiles *t) {
    free(t->start);
    free(t->weight);
    *t = (DecodeTiles){0};
}

void decode_tiles_add(const DecodeGrid *g, int row, int column, const float *tile, float *canvas, size_t height,
                      size_t width) {
    const DecodeTiles *r = &g->rows, *c = &g->columns;
    size_t h = (size_t)(r->tile * r->factor), w = (size_t)(c->tile * c->factor);
    size_t top = (size_t)(r->start[row] * r->factor), left = (size_t)(c->start[column] * c->factor);
    const float *wy = r->weight + (size_t)row * h, *wx = c->weight + (size_t)column * w;
    for (size_t channel = 0; channel < 3; channel++)
        for (size_t y = 0; y < h; y++) {
            const float *from = tile + (channel * h + y) * w;
            float *to = canvas + (channel * height + top + y) * width + left;
            for (size_t x = 0; x < w; x++) to[x] += wy[y] * wx[x] * from[x];
        }
}
