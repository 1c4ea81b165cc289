/* Images: size limits, and the choice of the reader by a file's first bytes. */
#include "format/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/jpeg.h"
#include "format/png.h"

int image_new(const char *name, long long width, long long height, Image *out, Error *err) {
    *out = (Image){0};
    if (width < 1 || height < 1 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE ||
        width * height > IMAGE_MAX_PIXELS)
        return fail(err, DRPO_E_INPUT, "%s: image of %lld x %lld pixels; at most %d a side and %d in all are read",
                    name, width, height, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
    out->rgb = malloc((size_t)(width * height) * 3);
    if (!out->rgb) return fail(err, DRPO_E_MEMORY, "%s: not enough memory for %lld x %lld pixels", name, width, height);
    out->width = (int)width;
    out->height = (int)height;
    return 0;
}

void image_free(Image *image) {
    if (!image) return;
    free(image->rgb);
    *image = (Image){0};
}

int image_read_memory(const char *name, const void *data, size_t size, Image *out, Error *err) {
    *out = (Image){0};
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) return png_read_rgb(name, data, size, out, err);
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) return jpeg_read_rgb(name, data, size, out, err);
    return fail(err, DRPO_E_INPUT, "%s: neither a PNG nor a JPEG image", name);
}

int image_read(const char *path, Image *out, Error *err) {
    *out = (Image){0};
    MappedFile map;
    TRY(file_map(path, &map, err));
    int code = image_read_memory(path, map.data, map.size, out, err);
    file_unmap(&map);
    return code;
}
