/* PNG, JPEG and base64: round trips, every kind of PNG pixel, damage. */
#include "check.h"

#include <png.h>
#include <stdbool.h>
#include <stdlib.h>

#include "format/base64.h"
#include "format/jpeg.h"
#include "format/png.h"

enum { W = 13, H = 9 };

static void make_pattern(uint8_t rgb[W * H * 3]) {
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (uint8_t)(i * 37 + i / 11);
}

static bool contains(const uint8_t *data, size_t size, const char *text) {
    return memmem(data, size, text, strlen(text)) != NULL;
}

static void png_keeps_every_pixel_and_the_text(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    const char *path = in_dir(fresh_dir("png", dir), "a.png");
    uint8_t rgb[W * H * 3];
    make_pattern(rgb);
    TextPair text[] = {{"parameters", "a red circle, Seed: 42"}, {"prompt", "gr\xc3\xbcn"}};
    assert_ok(png_write_rgb(path, rgb, W, H, text, 2, &err), err);
    Image image;
    assert_ok(image_read(path, &image, &err), err);
    assert_int_equal(image.width, W);
    assert_int_equal(image.height, H);
    assert_memory_equal(image.rgb, rgb, sizeof rgb);
    image_free(&image);
    MappedFile m;
    assert_ok(file_map(path, &m, &err), err);
    assert_true(contains(m.data, m.size, "tEXtparameters") && contains(m.data, m.size, "Seed: 42"));
    assert_true(contains(m.data, m.size, "iTXtprompt") && contains(m.data, m.size, "gr\xc3\xbcn"));
    file_unmap(&m);
    assert_fails(png_write_rgb(path, rgb, 0, H, NULL, 0, &err), DRPO_E_INTERNAL, "impossible size", err);
    assert_fails(png_write_rgb(path, rgb, W, H, &(TextPair){"", "x"}, 1, &err), DRPO_E_INTERNAL, "1 to 79", err);
    assert_fails(png_write_rgb(path, rgb, W, H, &(TextPair){"x", "\xff"}, 1, &err), DRPO_E_INPUT, "not UTF-8", err);
    assert_fails(png_write_rgb(in_dir(dir, "no/a.png"), rgb, W, H, NULL, 0, &err), DRPO_E_IO, "no/a.png", err);
}

typedef struct Grown {
    uint8_t bytes[1 << 16];
    size_t size;
} Grown;

static void grow(png_structp png, png_bytep data, size_t size) {
    Grown *g = png_get_io_ptr(png);
    assert_true(g->size + size <= sizeof g->bytes);
    memcpy(g->bytes + g->size, data, size);
    g->size += size;
}

static void no_flush(png_structp png) { (void)png; }

/* A 2 x 2 PNG of any kind, made by libpng alone. */
static void make_png(Grown *out, int color, int depth, int interlace, const uint8_t *row0, const uint8_t *row1) {
    out->size = 0;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, out, grow, no_flush);
    png_set_IHDR(png, info, 2, 2, depth, color, interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color palette[2] = {{10, 20, 30}, {200, 210, 220}};
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 2);
    uint8_t *rows[2] = {(uint8_t *)row0, (uint8_t *)row1};
    png_set_rows(png, info, rows);
    png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
    png_destroy_write_struct(&png, &info);
}

static void every_kind_of_png_becomes_rgb(void **state) {
    (void)state;
    static const struct {
        int color, depth, interlace;
        uint8_t row[2][16];
        uint8_t expected[12];
    } cases[] = {
        {PNG_COLOR_TYPE_GRAY, 8, 0, {{0, 128}, {7, 255}}, {0, 0, 0, 128, 128, 128, 7, 7, 7, 255, 255, 255}},
        {PNG_COLOR_TYPE_GRAY, 1, 0, {{0x40}, {0x80}}, {0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0}},
        {PNG_COLOR_TYPE_GRAY,
         16,
         0,
         {{0, 0, 128, 128}, {255, 255, 1, 1}},
         {0, 0, 0, 128, 128, 128, 255, 255, 255, 1, 1, 1}},
        {PNG_COLOR_TYPE_PALETTE, 1, 0, {{0x40}, {0x80}}, {10, 20, 30, 200, 210, 220, 200, 210, 220, 10, 20, 30}},
        {PNG_COLOR_TYPE_PALETTE, 8, 1, {{0, 1}, {1, 0}}, {10, 20, 30, 200, 210, 220, 200, 210, 220, 10, 20, 30}},
        {PNG_COLOR_TYPE_GRAY_ALPHA,
         8,
         0,
         {{0, 255, 0, 0}, {0, 51, 9, 255}},
         {0, 0, 0, 255, 255, 255, 204, 204, 204, 9, 9, 9}},
        {PNG_COLOR_TYPE_RGB_ALPHA,
         8,
         1,
         {{1, 2, 3, 255, 9, 9, 9, 0}, {255, 0, 0, 51, 4, 5, 6, 255}},
         {1, 2, 3, 255, 255, 255, 255, 204, 204, 4, 5, 6}},
        {PNG_COLOR_TYPE_RGB,
         8,
         1,
         {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}},
         {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
    };
    static Grown file;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Error err = {0};
        Image image;
        make_png(&file, cases[i].color, cases[i].depth, cases[i].interlace, cases[i].row[0], cases[i].row[1]);
        assert_ok(image_read_memory("x.png", file.bytes, file.size, &image, &err), err);
        assert_memory_equal(image.rgb, cases[i].expected, 12);
        image_free(&image);
    }
}

static void smooth_pattern(uint8_t rgb[64 * 48 * 3]) {
    for (int y = 0; y < 48; y++)
        for (int x = 0; x < 64; x++) {
            uint8_t *p = rgb + (y * 64 + x) * 3;
            p[0] = (uint8_t)(x * 4), p[1] = (uint8_t)(y * 5), p[2] = 128;
        }
}

static void jpeg_is_close(void **state) {
    (void)state;
    Error err = {0};
    static uint8_t rgb[64 * 48 * 3];
    smooth_pattern(rgb);
    uint8_t *data;
    size_t size, small;
    assert_ok(jpeg_encode_rgb(rgb, 64, 48, 10, &data, &small, &err), err);
    free(data);
    assert_ok(jpeg_encode_rgb(rgb, 64, 48, 95, &data, &size, &err), err);
    assert_true(small < size);
    Image image;
    assert_ok(image_read_memory("a.jpg", data, size, &image, &err), err);
    assert_int_equal(image.width, 64);
    assert_int_equal(image.height, 48);
    for (int i = 0; i < 64 * 48 * 3; i++) assert_in_range(image.rgb[i] + 12 - rgb[i], 0, 24);
    image_free(&image);
    free(data);
}

/* Every cut of a file must be an error, never an image with missing rows. */
static void truncated_images_are_refused(void **state) {
    (void)state;
    Error err = {0};
    static uint8_t rgb[64 * 48 * 3];
    smooth_pattern(rgb);
    for (int kind = 0; kind < 2; kind++) {
        uint8_t *data;
        size_t size;
        if (kind == 0)
            assert_ok(png_encode_rgb(rgb, 64, 48, NULL, 0, &data, &size, &err), err);
        else
            assert_ok(jpeg_encode_rgb(rgb, 64, 48, 80, &data, &size, &err), err);
        for (size_t cut = 0; cut + 2 < size; cut++) {
            uint8_t *part = malloc(cut + 1);
            memcpy(part, data, cut);
            Image image;
            int code = image_read_memory("cut", part, cut, &image, &err);
            free(part);
            assert_null(image.rgb);
            assert_fails(code, DRPO_E_INPUT, "cut: ", err);
        }
        free(data);
    }
}

static void damaged_images_are_refused(void **state) {
    (void)state;
    Error err = {0};
    Image image;
    uint8_t rgb[W * H * 3], *data;
    size_t size;
    make_pattern(rgb);
    assert_ok(png_encode_rgb(rgb, W, H, NULL, 0, &data, &size, &err), err);
    data[60] ^= 1; /* in the pixels: the checksum tells */
    assert_fails(image_read_memory("x", data, size, &image, &err), DRPO_E_INPUT, "damaged PNG", err);
    free(data);
    assert_fails(image_read_memory("x", "GIF89a..", 8, &image, &err), DRPO_E_INPUT, "neither a PNG nor a JPEG", err);
    assert_fails(image_new("x", 100000, 1, &image, &err), DRPO_E_INPUT, "100000 x 1", err);
    assert_fails(image_new("x", 16384, 16384, &image, &err), DRPO_E_INPUT, "16384 x 16384", err);
    assert_fails(image_new("x", 0, 5, &image, &err), DRPO_E_INPUT, "0 x 5", err);
    image_free(NULL);
}

static void base64_round_trips(void **state) {
    (void)state;
    Error err = {0};
    static const char *pairs[][2] = {{"", ""},
                                     {"f", "Zg=="},
                                     {"fo", "Zm8="},
                                     {"foo", "Zm9v"},
                                     {"foob", "Zm9vYg=="},
                                     {"fooba", "Zm9vYmE="},
                                     {"foobar", "Zm9vYmFy"},
                                     {"\xfb\xff", "+/8="}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[32];
        uint8_t back[32];
        size_t size;
        base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(base64_length(strlen(pairs[i][0])), strlen(text));
        assert_ok(base64_decode(text, strlen(text), back, &size, &err), err);
        assert_int_equal(size, strlen(pairs[i][0]));
        assert_memory_equal(back, pairs[i][0], size);
    }
    static const char *bad[] = {"Zg=", "Zg", "Z===", "Zm9v!mE=", "Zh==", "Zg==Zg==", "Zm9=Zm9v", "====", "Zm 9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t back[32];
        size_t size;
        assert_fails(base64_decode(bad[i], strlen(bad[i]), back, &size, &err), DRPO_E_INPUT, "base64", err);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_keeps_every_pixel_and_the_text),
        cmocka_unit_test(every_kind_of_png_becomes_rgb),
        cmocka_unit_test(jpeg_is_close),
        cmocka_unit_test(truncated_images_are_refused),
        cmocka_unit_test(damaged_images_are_refused),
        cmocka_unit_test(base64_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
