/* Reading PNG: libpng brings every kind of pixel to 8-bit RGBA, transparency is then shown on white.
 *
 * libpng leaves through longjmp. Everything that must survive it lives in one struct outside the frame that calls
 * setjmp. */
#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "format/png.h"

typedef struct Reader {
    const char *name;
    const uint8_t *data; /* the file */
    size_t size, at;
    png_structp png;
    png_infop info;
    uint8_t *rgba;   /* [height,width,4] */
    png_bytep *rows; /* [height] */
    png_uint_32 width, height;
    Error *err;
} Reader;

static void on_error(png_structp png, png_const_charp message) {
    Reader *r = png_get_error_ptr(png);
    fail(r->err, DRPO_E_INPUT, "%s: damaged PNG: %s", r->name, message);
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void read_bytes(png_structp png, png_bytep out, size_t size) {
    Reader *r = png_get_io_ptr(png);
    if (size > r->size - r->at) png_error(png, "the file is cut off");
    memcpy(out, r->data + r->at, size);
    r->at += size;
}

static void ask_for_rgba(Reader *r) {
    png_set_expand(r->png); /* palette, 1-4 bit gray and tRNS to 8-bit channels */
    png_set_scale_16(r->png);
    png_set_gray_to_rgb(r->png);
    png_set_add_alpha(r->png, 0xff, PNG_FILLER_AFTER);
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
}

/* Inside setjmp's reach; false with the error told, or a longjmp. */
static bool decode(Reader *r) {
    png_set_user_limits(r->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(r->png, 8 << 20);
    png_set_read_fn(r->png, r, read_bytes);
    png_read_info(r->png, r->info);
    r->width = png_get_image_width(r->png, r->info);
    r->height = png_get_image_height(r->png, r->info);
    if ((uint64_t)r->width * r->height > IMAGE_MAX_PIXELS) {
        fail(r->err, DRPO_E_INPUT, "%s: image of %u x %u pixels; at most %d in all are read", r->name, r->width,
             r->height, IMAGE_MAX_PIXELS);
        return false;
    }
    ask_for_rgba(r);
    if (png_get_rowbytes(r->png, r->info) != (size_t)r->width * 4) png_error(r->png, "unknown kind of pixels");
    r->rgba = malloc((size_t)r->width * r->height * 4);
    r->rows = calloc(r->height, sizeof *r->rows);
    if (!r->rgba || !r->rows) {
        fail(r->err, DRPO_E_MEMORY, "%s: not enough memory for %u x %u pixels", r->name, r->width, r->height);
        return false;
    }
    for (png_uint_32 y = 0; y < r->height; y++) r->rows[y] = r->rgba + (size_t)y * r->width * 4;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    return true;
}

/* The only frame with a setjmp: it has no locals of its own. */
static bool decode_safely(Reader *r) {
    if (setjmp(png_jmpbuf(r->png))) return false;
    return decode(r);
}

static int to_rgb(const Reader *r, Image *out) {
    TRY(image_new(r->name, r->width, r->height, out, r->err));
    size_t pixels = (size_t)r->width * r->height;
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *in = r->rgba + 4 * i;
        unsigned alpha = in[3];
        for (int c = 0; c < 3; c++)
            out->rgb[3 * i + (size_t)c] = (uint8_t)((in[c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
    return 0;
}

int png_read_rgb(const char *name, const void *data, size_t size, Image *out, Error *err) {
    *out = (Image){0};
    Error own = {0}; /* callbacks need a place even when the caller gave none */
    Reader r = {.name = name, .data = data, .size = size, .err = &own};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    if (r.png) r.info = png_create_info_struct(r.png);
    int code = 0;
    if (!r.info)
        code = fail(&own, DRPO_E_MEMORY, "%s: not enough memory to read it", name);
    else if (!decode_safely(&r))
        code = own.code;
    else
        code = to_rgb(&r, out);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    free(r.rgba);
    free(r.rows);
    return code < 0 ? fail(err, code, "%s", own.text) : 0;
}
