/* Decoding in tiles: positions, weights, and that a picture is its tiles, each decoded as a picture of its own. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "engine/backend.h"
#include "model/decode_pass.h"
#include "model/decode_tiles.h"

enum { TILE = 8, FACTOR = 8 };

/* Every pixel's weights sum to 1, tiles lie inside and in order, and no more of them than needed. */
static void test_weights(void **state) {
    (void)state;
    static const int sizes[][2] = {{9, 8},   {14, 8},   {15, 8},  {21, 8},  {64, 8},
                                   {17, 11}, {128, 64}, {97, 64}, {116, 64}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int size = sizes[k][0], tile = sizes[k][1], pixels = tile * FACTOR;
        DecodeTiles t;
        Error err = {0};
        assert_ok(decode_tiles_new(size, tile, FACTOR, &t, &err), err);
        double *sum = calloc((size_t)(size * FACTOR), sizeof *sum);
        for (int i = 0; i < t.count; i++) {
            assert_true(t.start[i] >= 0 && t.start[i] + tile <= size);
            if (i) assert_in_range(t.start[i] - t.start[i - 1], 1, tile - tile / 4);
            for (int p = 0; p < pixels; p++) {
                float w = t.weight[i * pixels + p];
                assert_true(w >= 0 && w <= 1);
                sum[t.start[i] * FACTOR + p] += (double)w;
            }
        }
        assert_int_equal(t.start[t.count - 1] + tile, size);
        assert_true((t.count - 2) * (tile - tile / 4) < size - tile);
        for (int p = 0; p < size * FACTOR; p++)
            if (fabs(sum[p] - 1) > 1e-6) fail_msg("%d in tiles of %d: weights at %d sum to %g", size, tile, p, sum[p]);
        free(sum);
        decode_tiles_free(&t);
    }
}

static Pipeline *open_model(int tile) {
    Error err = {0};
    Pipeline *p;
    assert_ok(pipeline_open(SOURCE_DIR "/tests/golden/families/sd", &p, &err), err);
    p->vae_tile = tile;
    assert_int_equal(p->factor, FACTOR);
    return p;
}

/* count pictures of latents [count,4,h,w]; returns the bytes that the layers take. */
static size_t decode(Pipeline *p, const float *latents, int count, int batch, int h, int w, uint8_t *rgb) {
    Error err = {0};
    DecodePass *d;
    Backend *b = backend_cpu_new(1, &err);
    assert_non_null(b);
    assert_ok(decode_pass_new(p, b, batch, h, w, &d, &err), err);
    size_t bytes = decode_pass_bytes(d);
    assert_ok(decode_pass_bind(d, NULL, &err), err);
    assert_ok(decode_pass_run(d, latents, count, rgb, &err), err);
    decode_pass_free(d);
    backend_free(b);
    return bytes;
}

static float *some_latents(int count) {
    float *latents = malloc((size_t)count * sizeof *latents);
    assert_non_null(latents);
    for (int i = 0; i < count; i++) latents[i] = 0.2f * sinf(0.37f * (float)i) + 0.1f * cosf(0.011f * (float)i);
    return latents;
}

/* What is added up at a pixel is what the tiles say of that pixel. */
static void test_add(void **state) {
    (void)state;
    enum { ROWS = 14, COLUMNS = 21, PX = TILE * FACTOR };
    static float tile[3][PX][PX], canvas[3][ROWS * FACTOR][COLUMNS * FACTOR];
    DecodeGrid g;
    Error err = {0};
    assert_ok(decode_tiles_new(ROWS, TILE, FACTOR, &g.rows, &err), err);
    assert_ok(decode_tiles_new(COLUMNS, TILE, FACTOR, &g.columns, &err), err);
    for (int r = 0; r < g.rows.count; r++)
        for (int k = 0; k < g.columns.count; k++) {
            for (int i = 0; i < 3 * PX * PX; i++) {
                int y = g.rows.start[r] * FACTOR + i / PX % PX, x = g.columns.start[k] * FACTOR + i % PX;
                tile[i / PX / PX][i / PX % PX][i % PX] = (float)(i / PX / PX) + 0.01f * (float)(y - 2 * x);
            }
            decode_tiles_add(&g, r, k, &tile[0][0][0], &canvas[0][0][0], ROWS * FACTOR, COLUMNS * FACTOR);
        }
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < ROWS * FACTOR; y++)
            for (int x = 0; x < COLUMNS * FACTOR; x++)
                assert_float_equal(canvas[c][y][x], (float)c + 0.01f * (float)(y - 2 * x), 1e-5f);
    decode_tiles_free(&g.rows);
    decode_tiles_free(&g.columns);
}

enum { LONG = 14, PX = TILE * FACTOR, ZONE = 2 * FACTOR, SECOND = (LONG - TILE) * FACTOR, PICTURES = 2 };
static uint8_t picture[PICTURES][LONG * FACTOR * PX][3], part[PICTURES][2][PX * PX][3];

/* Tiles 0 and 1 of picture i, each decoded by itself. */
static void decode_parts(Pipeline *p, const float *latents, bool wide) {
    float cut[4][TILE][TILE];
    for (int i = 0; i < PICTURES; i++)
        for (int t = 0; t < 2; t++) {
            for (int k = 0; k < 4 * TILE * TILE; k++) {
                int c = k / TILE / TILE, y = k / TILE % TILE, x = k % TILE, from = t * (LONG - TILE);
                int at = wide ? y * LONG + x + from : (y + from) * TILE + x;
                cut[c][y][x] = latents[(i * 4 + c) * LONG * TILE + at];
            }
            decode(p, &cut[0][0][0], 1, 1, TILE, TILE, &part[i][t][0][0]);
        }
}

/* Two pictures of two tiles, from 0 and 6 of 14 latents on. In between, each counts as much as its distance says;
 * elsewhere the picture is that tile's. What a tile clips alone is left out where they mix. */
static void check_pictures(bool wide) {
    float *latents = some_latents(PICTURES * 4 * LONG * TILE);
    Pipeline *tiled = open_model(TILE), *plain = open_model(0);
    decode(tiled, latents, PICTURES, PICTURES, wide ? TILE : LONG, wide ? LONG : TILE, &picture[0][0][0]);
    decode_parts(plain, latents, wide);
    int mixed = 0;
    for (int k = 0; k < PICTURES * LONG * FACTOR * PX * 3; k++) {
        int c = k % 3, across = k / 3 % PX, along = k / 3 / PX % (LONG * FACTOR), i = k / 3 / PX / (LONG * FACTOR);
        double second = fmin(1, fmax(0, (along + 0.5 - SECOND) / ZONE));
        bool both = second > 0 && second < 1;
        int a = second < 1 ? part[i][0][wide ? across * PX + along : along * PX + across][c] : 1;
        int from = along - SECOND, b = second > 0 ? part[i][1][wide ? across * PX + from : from * PX + across][c] : 1;
        int got = picture[i][wide ? across * LONG * FACTOR + along : along * PX + across][c];
        if (both && (a == 0 || a == 255 || b == 0 || b == 255)) continue;
        if (fabs(got - (1 - second) * a - second * b) > (both ? 1.01 : 0))
            fail_msg("picture %d, %d along, %d across: %d, not between %d and %d", i, along, across, got, a, b);
        mixed += both && a != b;
    }
    assert_true(mixed > 100); /* the tiles do differ where they meet */
    free(latents);
    pipeline_free(tiled);
    pipeline_free(plain);
}

static void test_pictures(void **state) {
    (void)state;
    check_pictures(false);
    check_pictures(true);
}

/* Memory is a tile's whatever the picture's size; pictures as small as a tile are decoded whole. */
static void test_bounded(void **state) {
    (void)state;
    enum { SIDE = 24 };
    float *latents = some_latents(4 * SIDE * SIDE);
    uint8_t *rgb = malloc(3 * SIDE * SIDE * FACTOR * FACTOR), *same = malloc(3 * TILE * TILE * FACTOR * FACTOR);
    assert_true(rgb && same);
    Pipeline *tiled = open_model(TILE), *plain = open_model(0);
    size_t one = decode(plain, latents, 1, 1, TILE, TILE, same);
    assert_int_equal(decode(tiled, latents, 1, 1, TILE, TILE, rgb), one);
    assert_memory_equal(rgb, same, 3 * TILE * TILE * FACTOR * FACTOR);
    assert_int_equal(decode(tiled, latents, 1, 1, SIDE, SIDE, rgb), one);
    assert_true(decode(plain, latents, 1, 1, SIDE, SIDE, rgb) > 6 * one);
    free(rgb);
    free(same);
    free(latents);
    pipeline_free(tiled);
    pipeline_free(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_weights), cmocka_unit_test(test_add),
                                       cmocka_unit_test(test_pictures), cmocka_unit_test(test_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
