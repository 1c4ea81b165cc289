/* Pairs: lines of a pairs file and their pictures. See pairs.h. Beside the prompt stage of the update. */
#include "step/pairs.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/image.h"
#include "format/json.h"
#include "format/resize.h"

static int add_paths(const json_t *line, const char *key, const char *folder, Arena *a, const Prompt *prompt,
                     const char **path, int *count, Error *err) {
    const json_t *value = json_object_get(line, key);
    const size_t n = json_is_array(value) ? json_array_size(value) : value ? 1 : 0;
    if (n < 1 || n > MAX_PAIR_IMAGES)
        return fail(err, DRPO_E_INPUT, "prompt '%.60s': '%s' names %zu pictures; it must be a path or 1 to %d of them",
                    prompt->text, key, n, MAX_PAIR_IMAGES);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        if (!text || !text[0])
            return fail(err, DRPO_E_INPUT, "prompt '%.60s': '%s' must hold paths of pictures", prompt->text, key);
        path[i] = text[0] == '/' ? arena_strdup(a, text) : path_join(a, folder, text);
        if (!path[i]) return fail(err, DRPO_E_MEMORY, "out of memory");
    }
    *count = (int)n;
    return 0;
}

int pair_parse(const Prompt *prompt, const char *folder, Arena *a, Pair *out, Error *err) {
    json_t *line = NULL;
    *out = (Pair){0};
    if (!prompt->metadata)
        return fail(err, DRPO_E_INPUT, "prompt '%.60s': pairs are JSON lines with 'chosen' and 'rejected'",
                    prompt->text);
    TRY(json_load_text("pairs", prompt->metadata, strlen(prompt->metadata), &line, err));
    int code = add_paths(line, "chosen", folder, a, prompt, out->path, &out->chosen, err);
    if (code == 0) code = add_paths(line, "rejected", folder, a, prompt, out->path + out->chosen, &out->rejected, err);
    json_decref(line);
    return code;
}

int pairs_check(const PromptList *prompts, const char *folder, Error *err) {
    for (size_t i = 0; i < prompts->count; i++) {
        Pair pair;
        Arena *a = arena_new();
        int code =
            a ? pair_parse(&prompts->items[i], folder, a, &pair, err) : fail(err, DRPO_E_MEMORY, "out of memory");
        for (int k = 0; code == 0 && k < pair.chosen + pair.rejected; k++)
            if (!file_exists(pair.path[k])) code = fail(err, DRPO_E_INPUT, "%s: no such picture", pair.path[k]);
        arena_free(a);
        if (code < 0) return fail_in(err, "line %zu of the pairs", i + 1), code;
    }
    return 0;
}

/* [h,w,3] bytes -> [3,h,w] floats */
static float *planes_of(const Image *image) {
    const size_t n = (size_t)image->width * (size_t)image->height;
    float *planes = malloc(3 * n * sizeof *planes);
    for (size_t i = 0; planes && i < n; i++)
        for (size_t c = 0; c < 3; c++) planes[c * n + i] = image->rgb[3 * i + c];
    return planes;
}

static void crop(const float *from, int from_height, int from_width, int height, int width, float *image) {
    const int top = (from_height - height) / 2, left = (from_width - width) / 2;
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                image[((size_t)c * (size_t)height + (size_t)y) * (size_t)width + (size_t)x] =
                    from[((size_t)c * (size_t)from_height + (size_t)(top + y)) * (size_t)from_width +
                         (size_t)(left + x)] /
                        127.5f -
                    1;
}

static int resize_and_crop(const Image *in, int height, int width, float *image, Error *err) {
    /* the side that would otherwise be too short decides */
    const double by = (double)height / in->height > (double)width / in->width ? (double)height / in->height
                                                                              : (double)width / in->width;
    if (in->height * by > IMAGE_MAX_SIDE || in->width * by > IMAGE_MAX_SIDE)
        return fail(err, DRPO_E_INPUT,
                    "a picture of %d x %d, to be cropped to %d x %d, would first be more than %d pixels long; crop it",
                    in->width, in->height, width, height, IMAGE_MAX_SIDE);
    int h = (int)(in->height * by + 0.5), w = (int)(in->width * by + 0.5);
    if (h < height) h = height;
    if (w < width) w = width;
    Resize resize;
    TRY(resize_new(RESIZE_LINEAR, in->width, in->height, w, h, &resize, err));
    float *planes = planes_of(in), *small = malloc(3 * (size_t)h * (size_t)w * sizeof *small);
    int code = planes && small ? resize_planes(&resize, planes, 3, small, err)
                               : fail(err, DRPO_E_MEMORY, "out of memory for a picture");
    if (code == 0) crop(small, h, w, height, width, image);
    free(planes);
    free(small);
    resize_free(&resize);
    return code;
}

int pair_picture(const char *path, int height, int width, float *image, Error *err) {
    Image in;
    TRY(image_read(path, &in, err));
    int code = resize_and_crop(&in, height, width, image, err);
    image_free(&in);
    return code < 0 ? (fail_in(err, "%s", path), code) : 0;
}
