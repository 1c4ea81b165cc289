/* Every caption of the scene world, in the words and the metadata of its prompt files: one shape; one shape two to four
 * times; a coloured shape; two shapes; one beside the other; two coloured shapes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/scene_internal.h"
#include "step/reward/scene_world.h"

static const char *article(const char *word) { return strchr("aeiou", word[0]) ? "an" : "a"; }

static void one_shape(FILE *f, const char *shape) {
    static const char *const numbers[] = {"two", "three", "four"};
    const size_t n = strlen(shape);
    const char *plural = shape[n - 1] == 's' ? "es" : "s"; /* crosses */
    fprintf(f,
            "{\"tag\": \"single_object\", \"include\": [{\"class\": \"%s\", \"count\": 1}], \"exclude\": [], "
            "\"prompt\": \"a photo of %s %s\"}\n",
            shape, article(shape), shape);
    for (int k = 2; k <= 4; k++)
        fprintf(f,
                "{\"tag\": \"counting\", \"include\": [{\"class\": \"%s\", \"count\": %d}], \"exclude\": [{\"class\": "
                "\"%s\", \"count\": %d}], \"prompt\": \"a photo of %s %s%s\"}\n",
                shape, k, shape, k + 1, numbers[k - 2], shape, plural);
    for (int c = 0; c < SCENE_COLORS; c++)
        fprintf(f,
                "{\"tag\": \"colors\", \"include\": [{\"class\": \"%s\", \"count\": 1, \"color\": \"%s\"}], "
                "\"exclude\": [], \"prompt\": \"a photo of %s %s %s\"}\n",
                shape, SCENE_COLOR_NAMES[c], article(SCENE_COLOR_NAMES[c]), SCENE_COLOR_NAMES[c], shape);
}

static void two_colors(FILE *f, const char *a, const char *b) {
    for (int i = 0; i < SCENE_COLORS * SCENE_COLORS; i++) {
        const char *p = SCENE_COLOR_NAMES[i / SCENE_COLORS], *q = SCENE_COLOR_NAMES[i % SCENE_COLORS];
        if (p != q)
            fprintf(f,
                    "{\"tag\": \"color_attr\", \"include\": [{\"class\": \"%s\", \"count\": 1, \"color\": \"%s\"}, "
                    "{\"class\": \"%s\", \"count\": 1, \"color\": \"%s\"}], \"exclude\": [], \"prompt\": \"a photo of "
                    "%s %s %s and %s %s %s\"}\n",
                    a, p, b, q, article(p), p, a, article(q), q, b);
    }
}

static void two_shapes(FILE *f, const char *a, const char *b) {
    static const char *const relations[] = {"left of", "right of", "above", "below"};
    fprintf(f,
            "{\"tag\": \"two_object\", \"include\": [{\"class\": \"%s\", \"count\": 1}, {\"class\": \"%s\", \"count\": "
            "1}], \"exclude\": [], \"prompt\": \"a photo of %s %s and %s %s\"}\n",
            a, b, article(a), a, article(b), b);
    for (int k = 0; k < 4; k++)
        fprintf(f,
                "{\"tag\": \"position\", \"include\": [{\"class\": \"%s\", \"count\": 1}, {\"class\": \"%s\", "
                "\"count\": 1, \"position\": [\"%s\", 0]}], \"exclude\": [], \"prompt\": \"a photo of %s %s %s %s "
                "%s\"}\n",
                b, a, relations[k], article(a), a, relations[k], article(b), b);
    two_colors(f, a, b);
}

int scene_captions(char **text, size_t *size, Error *err) {
    FILE *f = open_memstream(text, size);
    if (!f) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int i = 0; i < SCENE_SHAPES; i++) one_shape(f, SCENE_SHAPE_NAMES[i]);
    for (int i = 0; i < SCENE_SHAPES; i++)
        for (int k = 0; k < SCENE_SHAPES; k++)
            if (i != k) two_shapes(f, SCENE_SHAPE_NAMES[i], SCENE_SHAPE_NAMES[k]);
    const bool failed = ferror(f) != 0;
    if (fclose(f) == 0 && !failed) return 0;
    free(*text);
    *text = NULL;
    return fail(err, DRPO_E_MEMORY, "out of memory");
}
