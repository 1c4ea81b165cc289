/* Opens a model and writes one picture of a prompt as a PPM file.
 *
 *     example_sample assets/tiny-turbo "a photo of a red circle" picture.ppm [LORA] */
#include <stdio.h>
#include <stdlib.h>

#include "drpo.h"

static int write_ppm(const char *path, const uint8_t *rgb, int height, int width) {
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    fprintf(f, "P6\n%d %d\n255\n", width, height);
    size_t bytes = (size_t)height * (size_t)width * 3;
    int failed = fwrite(rgb, 1, bytes, f) != bytes;
    return fclose(f) != 0 || failed ? -1 : 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL PROMPT FILE.ppm [LORA]\n", argv[0]);
        return 2;
    }
    char error[256] = "";
    int height, width;
    drpo_model *model = NULL;
    if (drpo_model_open(argv[1], argc > 4 ? argv[4] : NULL, 0, &model, error, sizeof error) < 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    drpo_model_size(model, &height, &width);
    uint8_t *rgb = malloc((size_t)height * (size_t)width * 3);
    int failed = !rgb;
    if (!failed && drpo_model_sample(model, argv[2], 42, 1, rgb, error, sizeof error) < 0) {
        fprintf(stderr, "%s\n", error);
        failed = 1;
    }
    if (!failed && write_ppm(argv[3], rgb, height, width) < 0) {
        perror(argv[3]);
        failed = 1;
    }
    if (!failed) printf("%s: %d x %d\n", argv[3], width, height);
    free(rgb);
    drpo_model_free(model);
    return failed;
}
