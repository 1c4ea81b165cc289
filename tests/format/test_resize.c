/* Resizing: equal to Pillow to the last bit, to torch on floats, its adjoint, and the preparation of a picture. */
#include "check.h"

#include <math.h>
#include <stdlib.h>

#include "format/json.h"
#include "format/picture_prepare.h"
#include "format/resize.h"
#include "format/safetensors.h"

static const char folder[] = SOURCE_DIR "/tests/golden/resize";

/* The picture of tools/golden/resize.py. */
static uint8_t *make_picture(int width, int height) {
    const size_t n = (size_t)width * (size_t)height * 3;
    uint8_t *rgb = malloc(n);
    assert_non_null(rgb);
    for (size_t i = 0; i < n; i++) {
        const int v = (int)(((uint32_t)(i * 2654435761u + 12345u) >> 19) % 700u) - 200;
        rgb[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
    return rgb;
}

static void pictures_are_pillows_to_the_last_bit(void **state) {
    (void)state;
    Error err = {0};
    char path[600], hex[65];
    snprintf(path, sizeof path, "%s/pillow.json", folder);
    json_t *rows;
    assert_ok(json_load_path(path, &rows, &err), err);
    assert_int_equal(json_array_size(rows), 11);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        int size[4];
        for (size_t k = 0; k < 4; k++) size[k] = (int)json_integer_value(json_array_get(json_array_get(rows, i), k));
        uint8_t *rgb = make_picture(size[0], size[1]), *out = malloc((size_t)size[2] * (size_t)size[3] * 3);
        assert_ok(resize_rgb(rgb, size[0], size[1], out, size[2], size[3], &err), err);
        sha256_hex(out, (size_t)size[2] * (size_t)size[3] * 3, hex);
        const char *wanted = json_string_value(json_array_get(json_array_get(rows, i), 4));
        if (strcmp(hex, wanted) != 0) fail_msg("%d x %d to %d x %d differs", size[0], size[1], size[2], size[3]);
        free(rgb);
        free(out);
    }
    json_decref(rows);
}

/* Eight samples to three, worked out by hand: the three flavours differ by whole grey levels. */
static void eight_samples_become_three(void **state) {
    (void)state;
    Error err = {0};
    static const struct {
        float in[8];
        uint8_t bytes[3];
        float pil[3], plain[3];
    } cases[] = {
        {{0, 10, 20, 30, 40, 50, 60, 70}, {9, 35, 61}, {8.964649f, 35, 61.035339f}, {7.696760f, 35, 62.303234f}},
        {{0, 255, 0, 255, 0, 255, 0, 255},
         {112, 127, 143},
         {112.356911f, 127.5f, 142.643112f},
         {240.538208f, 127.5f, 14.461811f}},
    };
    for (size_t c = 0; c < 2; c++) {
        uint8_t rgb[24], out[9];
        for (int i = 0; i < 24; i++) rgb[i] = (uint8_t)cases[c].in[i / 3];
        assert_ok(resize_rgb(rgb, 8, 1, out, 3, 1, &err), err);
        for (int i = 0; i < 9; i++) assert_int_equal(out[i], cases[c].bytes[i / 3]);
        for (ResizeFilter filter = RESIZE_PIL; filter <= RESIZE_PLAIN; filter++) {
            Resize r;
            float got[3];
            assert_ok(resize_new(filter, 1, 8, 1, 3, &r, &err), err); /* this time along columns */
            assert_ok(resize_planes(&r, cases[c].in, 1, got, &err), err);
            const float *wanted = filter == RESIZE_PIL ? cases[c].pil : cases[c].plain;
            for (int i = 0; i < 3; i++) assert_true(fabsf(got[i] - wanted[i]) < 2e-5f);
            resize_free(&r);
        }
    }
}

static const SafeTensor *find(const SafeFile *f, const char *format, const char *name, const char *filter) {
    char key[96];
    snprintf(key, sizeof key, format, name, filter);
    const SafeTensor *t = safetensors_find(f, key);
    if (!t) fail_msg("no %s", key);
    return t;
}

static void assert_close(const float *x, const SafeTensor *wanted, const char *what) {
    const float *y = wanted->data;
    for (size_t i = 0; i < wanted->bytes / sizeof *y; i++)
        if (!(fabsf(x[i] - y[i]) < 2e-6f)) fail_msg("%s: [%zu] is %g, not %g", what, i, (double)x[i], (double)y[i]);
}

static void floats_and_gradients_are_torchs(void **state) {
    (void)state;
    Error err = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/io.safetensors", folder);
    SafeFile *f;
    assert_ok(safetensors_open(path, &f, &err), err);
    static const char *names[] = {"down", "up", "mixed"}, *filters[] = {"pil", "plain"};
    for (int i = 0; i < 6; i++) {
        const char *name = names[i / 2], *filter = filters[i % 2];
        const SafeTensor *in = find(f, "input.%s%s", name, ""), *d = find(f, "input.%s.d%s", name, "");
        const SafeTensor *out = find(f, "output.%s.%s", name, filter),
                         *grad = find(f, "output.%s.%s.grad", name, filter);
        float *got = malloc(in->bytes + out->bytes);
        Resize r;
        assert_ok(resize_new(i % 2 ? RESIZE_PLAIN : RESIZE_PIL, (int)in->dim[2], (int)in->dim[1], (int)out->dim[2],
                             (int)out->dim[1], &r, &err),
                  err);
        assert_ok(resize_planes(&r, in->data, 2, got, &err), err);
        assert_close(got, out, name);
        assert_ok(resize_planes_adjoint(&r, d->data, 2, got, &err), err);
        assert_close(got, grad, name);
        resize_free(&r);
        free(got);
    }
    safetensors_close(f);
}

static void pictures_are_prepared_as_clip_wants(void **state) {
    (void)state;
    Error err = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/io.safetensors", folder);
    SafeFile *f;
    assert_ok(safetensors_open(path, &f, &err), err);
    static const struct {
        const char *name;
        int width, height;
        CropRule crop;
    } cases[] = {{"wide", 301, 200, CROP_FLOOR}, {"tall", 230, 333, CROP_ROUND}, {"square", 64, 64, CROP_FLOOR}};
    static float out[3 * 224 * 224], sample[3 * 7 * 75];
    for (size_t c = 0; c < 3; c++) {
        PictureRule rule = picture_rule_clip;
        rule.crop = cases[c].crop;
        uint8_t *rgb = make_picture(cases[c].width, cases[c].height);
        assert_ok(picture_prepare(&rule, rgb, cases[c].width, cases[c].height, out, &err), err);
        size_t n = 0;
        for (int p = 0; p < 3; p++)
            for (int y = 0; y < 224; y += 37)
                for (int x = 0; x < 224; x += 3) sample[n++] = out[(p * 224 + y) * 224 + x];
        const SafeTensor *wanted = find(f, "output.clip.%s%s", cases[c].name, "");
        assert_int_equal(wanted->bytes, n * sizeof *sample);
        assert_close(sample, wanted, cases[c].name);
        free(rgb);
    }
    safetensors_close(f);
    assert_int_equal(crop_start(CROP_ROUND, 227, 224), 2); /* 1.5 to even */
    assert_int_equal(crop_start(CROP_ROUND, 229, 224), 2);
    assert_fails(picture_prepare(&picture_rule_clip, NULL, 1, 1000, out, &err), DRPO_E_INPUT, "1 x 1000", err);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    Error err = {0};
    uint8_t pixel[3] = {0};
    assert_fails(resize_rgb(pixel, 0, 1, pixel, 1, 1, &err), DRPO_E_INTERNAL, "impossible size", err);
    assert_fails(resize_rgb(pixel, 1, 1, pixel, 16385, 1, &err), DRPO_E_INPUT, "16384 pixels at most", err);
    assert_fails(resize_rgb(pixel, 1, 1, pixel, 1, 100000, &err), DRPO_E_INPUT, "100000", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_pillows_to_the_last_bit), cmocka_unit_test(eight_samples_become_three),
        cmocka_unit_test(floats_and_gradients_are_torchs),      cmocka_unit_test(pictures_are_prepared_as_clip_wants),
        cmocka_unit_test(impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
