/* Any bytes as an image (PNG or JPEG): refused, or every pixel is there. */
#include <stdlib.h>

#include "format/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Error err = {0};
    Image image;
    int code = image_read_memory("input", data, size, &image, &err);
    if ((code < 0) != (image.rgb == NULL) || (code < 0) != (err.code < 0)) abort();
    if (code < 0) return 0;
    unsigned sum = 0;
    for (size_t i = 0; i < (size_t)image.width * (size_t)image.height * 3; i++) sum += image.rgb[i];
    image_free(&image);
    return sum == 1 ? -1 : 0;
}
