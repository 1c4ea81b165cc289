/* Writing PNG: into memory first, so that a file on disk is always whole. As in png_read.c, state lives outside the
 * frame that calls setjmp. */
#include <png.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/png.h"
#include "format/utf8.h"

typedef struct Writer {
    png_structp png;
    png_infop info;
    const uint8_t *rgb; /* [height,width,3] */
    int width, height;
    png_text *text; /* [n_text] */
    size_t n_text;
    uint8_t *bytes;
    size_t size, room;
    Error *err;
} Writer;

static void on_error(png_structp png, png_const_charp message) {
    Writer *w = png_get_error_ptr(png);
    fail(w->err, DRPO_E_INTERNAL, "PNG image of %d x %d pixels: %s", w->width, w->height, message);
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void append(png_structp png, png_bytep data, size_t size) {
    Writer *w = png_get_io_ptr(png);
    if (w->room - w->size < size) {
        size_t room = (w->size + size) * 2;
        uint8_t *more = realloc(w->bytes, room);
        if (!more) png_error(png, "not enough memory");
        w->bytes = more;
        w->room = room;
    }
    memcpy(w->bytes + w->size, data, size);
    w->size += size;
}

static void flush_nothing(png_structp png) { (void)png; }

static int prepare_text(Writer *w, const TextPair *text, size_t n) {
    w->text = calloc(n + 1, sizeof *w->text);
    if (!w->text) return fail(w->err, DRPO_E_MEMORY, "PNG text: not enough memory");
    w->n_text = n;
    for (size_t i = 0; i < n; i++) {
        size_t key = strlen(text[i].key), length = strlen(text[i].value);
        bool ascii = true;
        for (size_t j = 0; j < length; j++) ascii = ascii && (unsigned char)text[i].value[j] < 0x80;
        if (key < 1 || key > 79)
            return fail(w->err, DRPO_E_INTERNAL, "PNG text: the key '%.90s' must have 1 to 79 characters", text[i].key);
        if (utf8_valid_prefix(text[i].value, length) < length)
            return fail(w->err, DRPO_E_INPUT, "PNG text '%s' is not UTF-8", text[i].key);
        w->text[i].compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        w->text[i].key = (char *)text[i].key;
        w->text[i].text = (char *)text[i].value;
        w->text[i].text_length = ascii ? length : 0;
        w->text[i].itxt_length = ascii ? 0 : length;
    }
    return 0;
}

static void encode(Writer *w) {
    png_set_write_fn(w->png, w, append, flush_nothing);
    png_set_IHDR(w->png, w->info, (png_uint_32)w->width, (png_uint_32)w->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (w->n_text) png_set_text(w->png, w->info, w->text, (int)w->n_text);
    png_write_info(w->png, w->info);
    for (int y = 0; y < w->height; y++) png_write_row(w->png, w->rgb + (size_t)y * (size_t)w->width * 3);
    png_write_end(w->png, NULL);
}

/* The only frame with a setjmp: it has no locals of its own. */
static bool encode_safely(Writer *w) {
    if (setjmp(png_jmpbuf(w->png))) return false;
    encode(w);
    return true;
}

int png_encode_rgb(const uint8_t *rgb, int width, int height, const TextPair *text, size_t n_text, uint8_t **data,
                   size_t *size, Error *err) {
    *data = NULL;
    *size = 0;
    if (width < 1 || height < 1 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return fail(err, DRPO_E_INTERNAL, "PNG image of %d x %d pixels: impossible size", width, height);
    Error own = {0};
    Writer w = {.rgb = rgb, .width = width, .height = height, .err = &own};
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, on_error, on_warning);
    if (w.png) w.info = png_create_info_struct(w.png);
    int code = w.info ? prepare_text(&w, text, n_text) : fail(&own, DRPO_E_MEMORY, "PNG image: not enough memory");
    if (code == 0 && !encode_safely(&w)) code = own.code;
    png_destroy_write_struct(&w.png, &w.info);
    free(w.text);
    if (code < 0) {
        free(w.bytes);
        return fail(err, code, "%s", own.text);
    }
    *data = w.bytes;
    *size = w.size;
    return 0;
}

int png_write_rgb(const char *path, const uint8_t *rgb, int width, int height, const TextPair *text, size_t n_text,
                  Error *err) {
    uint8_t *data;
    size_t size;
    if (png_encode_rgb(rgb, width, height, text, n_text, &data, &size, err) < 0) return fail_in(err, "%s", path);
    int code = file_write_atomic(path, data, size, err);
    free(data);
    return code;
}
