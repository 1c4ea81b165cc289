/* JPEG through libjpeg. Its errors leave through longjmp, its warnings (damaged or missing data) are counted and become
 * errors too: an image that is partly gray must not be scored. */
#include "format/jpeg.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h> /* needs stdio.h */

#include <jerror.h>

typedef struct Codec {
    struct jpeg_error_mgr manager; /* first: libjpeg hands out a pointer to it */
    jmp_buf jump;
    struct jpeg_decompress_struct reader;
    struct jpeg_compress_struct writer;
    const char *name;
    const uint8_t *data; /* file to read, or rgb [height,width,3] to write */
    size_t size;
    Image image;
    uint8_t *row; /* [width,4], for CMYK */
    unsigned char *bytes;
    unsigned long n_bytes;
    int quality;
    Error *err;
} Codec;

static void on_error(j_common_ptr any) {
    Codec *c = (Codec *)any->err;
    char message[JMSG_LENGTH_MAX];
    any->err->format_message(any, message);
    fail(c->err, DRPO_E_INPUT, "%s: damaged JPEG: %s", c->name, message);
    longjmp(c->jump, 1);
}

static void on_message(j_common_ptr any, int level) {
    /* Rubbish between two segments harms nothing and is common. */
    if (level < 0 && any->err->msg_code != JWRN_EXTRANEOUS_DATA) on_error(any);
}

static void on_output(j_common_ptr any) { (void)any; }

static void set_up_errors(Codec *c) {
    jpeg_std_error(&c->manager);
    c->manager.error_exit = on_error;
    c->manager.emit_message = on_message;
    c->manager.output_message = on_output;
}

/* Four-channel JPEGs from image editors store inverted ink: 255 means none. */
static void inverted_cmyk_to_rgb(const uint8_t *in, uint8_t *out, size_t width, bool inverted) {
    for (size_t x = 0; x < width; x++) {
        unsigned black = inverted ? in[4 * x + 3] : 255u - in[4 * x + 3];
        for (size_t c = 0; c < 3; c++) {
            unsigned ink = inverted ? in[4 * x + c] : 255u - in[4 * x + c];
            out[3 * x + c] = (uint8_t)((ink * black + 127) / 255);
        }
    }
}

static int decode(Codec *c) {
    struct jpeg_decompress_struct *r = &c->reader;
    jpeg_mem_src(r, (unsigned char *)c->data, (unsigned long)c->size);
    jpeg_read_header(r, TRUE);
    TRY(image_new(c->name, r->image_width, r->image_height, &c->image, c->err));
    bool four = r->num_components == 4;
    r->out_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(r);
    if (r->output_components != (four ? 4 : 3))
        return fail(c->err, DRPO_E_INPUT, "%s: JPEG with unknown kind of pixels", c->name);
    size_t width = r->output_width;
    if (four && !(c->row = malloc(width * 4))) return fail(c->err, DRPO_E_MEMORY, "%s: not enough memory", c->name);
    while (r->output_scanline < r->output_height) {
        uint8_t *out = c->image.rgb + (size_t)r->output_scanline * width * 3;
        JSAMPROW row = four ? c->row : out;
        if (jpeg_read_scanlines(r, &row, 1) == 1 && four) inverted_cmyk_to_rgb(c->row, out, width, r->saw_Adobe_marker);
    }
    jpeg_finish_decompress(r);
    return 0;
}

/* The only frames with a setjmp: they have no locals of their own. */
static int decode_safely(Codec *c) {
    if (setjmp(c->jump)) return c->err->code;
    jpeg_create_decompress(&c->reader);
    return decode(c);
}

int jpeg_read_rgb(const char *name, const void *data, size_t size, Image *out, Error *err) {
    *out = (Image){0};
    Error own = {0};
    Codec *c = calloc(1, sizeof *c);
    if (!c) return fail(err, DRPO_E_MEMORY, "%s: not enough memory", name);
    c->name = name, c->data = data, c->size = size, c->err = &own;
    set_up_errors(c);
    c->reader.err = &c->manager;
    int code = decode_safely(c);
    jpeg_destroy_decompress(&c->reader);
    free(c->row);
    if (code < 0)
        image_free(&c->image);
    else
        *out = c->image;
    free(c);
    return code < 0 ? fail(err, code, "%s", own.text) : 0;
}

static void encode(Codec *c) {
    struct jpeg_compress_struct *w = &c->writer;
    jpeg_mem_dest(w, &c->bytes, &c->n_bytes);
    w->image_width = (JDIMENSION)c->image.width;
    w->image_height = (JDIMENSION)c->image.height;
    w->input_components = 3;
    w->in_color_space = JCS_RGB;
    jpeg_set_defaults(w);
    jpeg_set_quality(w, c->quality, TRUE);
    jpeg_start_compress(w, TRUE);
    while (w->next_scanline < w->image_height) {
        JSAMPROW row = (uint8_t *)c->data + (size_t)w->next_scanline * w->image_width * 3;
        jpeg_write_scanlines(w, &row, 1);
    }
    jpeg_finish_compress(w);
}

static int encode_safely(Codec *c) {
    if (setjmp(c->jump)) return c->err->code;
    jpeg_create_compress(&c->writer);
    encode(c);
    return 0;
}

int jpeg_encode_rgb(const uint8_t *rgb, int width, int height, int quality, uint8_t **data, size_t *size, Error *err) {
    *data = NULL;
    *size = 0;
    if (width < 1 || height < 1 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return fail(err, DRPO_E_INTERNAL, "JPEG image of %d x %d pixels: impossible size", width, height);
    Error own = {0};
    Codec *c = calloc(1, sizeof *c);
    if (!c) return fail(err, DRPO_E_MEMORY, "JPEG image: not enough memory");
    c->name = "JPEG image", c->data = rgb, c->quality = quality, c->err = &own;
    c->image = (Image){.width = width, .height = height};
    set_up_errors(c);
    c->writer.err = &c->manager;
    int code = encode_safely(c);
    jpeg_destroy_compress(&c->writer);
    if (code == 0)
        *data = c->bytes, *size = c->n_bytes;
    else
        free(c->bytes);
    free(c);
    return code < 0 ? fail(err, code, "%s", own.text) : 0;
}
