/* Start: random weights, and the wires that carry the noise. See unet_start.h.
 *
 * Channel pairs (2i, 2i+1) of the last norm group hold z_i + c and -z_i + c, c = +-sqrt(32^2 - 1): their mean is 0 and
 * their deviation 32, which the norm's weight 32 undoes and its bias -c follows; silu(z) - silu(-z) = z. */
#include "model/unet_start.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "model/random_start.h"
#include "model/weights.h"

enum { WIRES = 8, NAME = 128 };
static const float DEVIATION = 32, OFFSET = 31.984375f; /* sqrt(32^2 - 1), exact in 16 bits */

typedef struct Start {
    const Pipeline *pipeline;
    const Adapter *adapter;
    float *values, *share; /* what is written; either may be NULL */
    int64_t width, first;  /* channels of conv_in; the first wired one */
    Error *err;
} Start;

static const SafeTensor *find(const Start *s, const char *name) {
    for (size_t i = 0; i < weights_count(s->adapter->full); i++) {
        const SafeTensor *t = weights_at(s->adapter->full, i);
        if (strcmp(t->name, name) == 0) return t;
    }
    fail(s->err, DRPO_E_INPUT, "this UNet has no tensor '%s', so it cannot be started from nothing", name);
    return NULL;
}

static size_t offset_of(const Start *s, const SafeTensor *t) {
    return (size_t)((const float *)t->data - s->adapter->values);
}

static size_t size_of(const SafeTensor *t) { return t->bytes / sizeof(float); }

/* ---- wires ---- */
static void wire(const Start *s, const SafeTensor *t, size_t at, float value) {
    if (!t) return;
    if (s->values) s->values[offset_of(s, t) + at] = value;
    if (s->share) s->share[offset_of(s, t) + at] = 0;
}

/* Rows of the wired channels: all 0. */
static const SafeTensor *cut(const Start *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static const SafeTensor *cut(const Start *s, const char *format, ...) {
    char name[NAME];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const SafeTensor *t = find(s, name);
    const size_t row = t ? size_of(t) / (size_t)t->dim[0] : 0;
    for (size_t i = 0; i < WIRES * row; i++) wire(s, t, (size_t)s->first * row + i, 0);
    return t;
}

/* In: the centre of the 3 x 3 kernel takes +-z_i. */
static void wire_in(const Start *s, int channels) {
    const SafeTensor *w = cut(s, "conv_in.weight"), *b = cut(s, "conv_in.bias");
    for (int k = 0; k < WIRES; k++) {
        const size_t row = (size_t)(s->first + k);
        wire(s, w, (row * (size_t)channels + (size_t)(k / 2)) * 9 + 4, k % 2 ? -1 : 1);
        wire(s, b, row, k / 2 % 2 ? -OFFSET : OFFSET);
    }
}

/* Through the last resnet, whose shortcut sees conv_in's channels behind its own, and past the attention behind it. */
static void wire_through(const Start *s, int block, int layer) {
    cut(s, "up_blocks.%d.resnets.%d.conv2.weight", block, layer);
    cut(s, "up_blocks.%d.resnets.%d.conv2.bias", block, layer);
    if (s->pipeline->unet.up_cross[block]) {
        cut(s, "up_blocks.%d.attentions.%d.proj_out.weight", block, layer);
        cut(s, "up_blocks.%d.attentions.%d.proj_out.bias", block, layer);
    }
    const SafeTensor *t = cut(s, "up_blocks.%d.resnets.%d.conv_shortcut.weight", block, layer);
    cut(s, "up_blocks.%d.resnets.%d.conv_shortcut.bias", block, layer);
    const size_t inputs = t ? size_of(t) / (size_t)t->dim[0] : 0;
    for (size_t k = (size_t)s->first; k < (size_t)s->width; k++)
        wire(s, t, k * inputs + inputs - (size_t)s->width + k, 1);
}

/* Out: the norm gives +-z_i back, and eps_i is half the difference of a pair, undoing the input's scale. */
static void wire_out(const Start *s, int channels) {
    const SafeTensor *w = cut(s, "conv_norm_out.weight"), *b = cut(s, "conv_norm_out.bias");
    const SafeTensor *out = find(s, "conv_out.weight");
    const float back = 1 / s->pipeline->stock.input_scale;
    for (int k = 0; k < WIRES; k++) {
        const size_t at = (size_t)(s->first + k);
        wire(s, w, at, DEVIATION);
        wire(s, b, at, k / 2 % 2 ? OFFSET : -OFFSET);
        for (int c = 0; c < channels; c++)
            for (size_t j = 0; j < 9; j++)
                wire(s, out, ((size_t)c * (size_t)s->width + at) * 9 + j,
                     j == 4 && c == k / 2 ? k % 2 ? -back : back : 0);
    }
}

/* conv_out: half as large as others, in pictures. */
static void scale_out(const Start *s) {
    static const char *const names[] = {"conv_out.weight", "conv_out.bias"};
    const float sigma = s->pipeline->stock.eps_factor;
    for (int k = 0; k < 2; k++) {
        const SafeTensor *t = find(s, names[k]);
        for (size_t i = 0; t && i < size_of(t); i++) {
            const size_t at = offset_of(s, t) + i;
            if (s->values) s->values[at] *= k ? 0 : .5f / sigma;
            if (s->share) s->share[at] = 1 / sigma;
        }
    }
}

static bool has_room(const UnetConfig *c) {
    const int blocks = c->blocks;
    return c->in_channels == WIRES / 2 && c->norm_groups > 0 && c->channels[0] == WIRES * c->norm_groups && blocks > 0;
}

static int wire_all(Start *s) {
    const UnetConfig *c = &s->pipeline->unet;
    if (!has_room(c))
        return fail(s->err, DRPO_E_INPUT,
                    "this UNet cannot be started from nothing: its first level must have norm groups of %d channels, "
                    "and 4 channels of latents",
                    WIRES);
    s->width = c->channels[0];
    s->first = s->width - WIRES;
    error_clear(s->err);
    scale_out(s);
    wire_in(s, c->in_channels);
    wire_through(s, c->blocks - 1, c->layers[0]);
    wire_out(s, c->in_channels);
    return s->err->code;
}

int unet_start(const Pipeline *p, Adapter *a, uint64_t seed, Error *err) {
    Start s = {.pipeline = p, .adapter = a, .values = a->values, .err = err};
    random_start(a, seed);
    return wire_all(&s);
}

/* Whether the wires are there: those of conv_in say so. */
static bool is_wired(const Start *s) {
    const SafeTensor *b = find(s, "conv_in.bias");
    return b && has_room(&s->pipeline->unet) && fabsf(((const float *)b->data)[b->dim[0] - WIRES]) == OFFSET;
}

int unet_start_shares(const Pipeline *p, const Adapter *a, float **out, Error *err) {
    Error mine = {0};
    Start s = {.pipeline = p, .adapter = a, .err = err ? err : &mine};
    *out = NULL;
    if (!is_wired(&s)) return s.err->code;
    s.share = malloc(a->count * sizeof *s.share);
    if (!s.share) return fail(err, DRPO_E_MEMORY, "out of memory for the rates of %zu weights", a->count);
    for (size_t i = 0; i < a->count; i++) s.share[i] = 1;
    *out = s.share;
    return wire_all(&s);
}
