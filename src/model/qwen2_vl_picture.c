/* Pictures and positions of Qwen2-VL: the size a picture gets, its patches in the order of the network, and the angles
 * that tell tokens apart.
 *
 *     angle of pair j at position p = p * theta^(-2j/d),  d the head size (in the vision tower half of it per axis) */
#include <math.h>

#include "format/image.h"
#include "model/qwen2_vl.h"

enum { MAX_ASPECT = 200 };

static int64_t round_half_even(double x) { return (int64_t)nearbyint(x); } /* the default rounding mode */

int qwen2_vl_picture_size(const QwenVisionConfig *c, int64_t pixels, int width, int height, int *out_width,
                          int *out_height, Error *err) {
    const double unit = c->patch * c->merge, w = width, h = height;
    if (width < 1 || height < 1 || w > MAX_ASPECT * h || h > MAX_ASPECT * w)
        return fail(err, DRPO_E_INPUT, "a picture of %d x %d: one side must not be more than %d times the other", width,
                    height, MAX_ASPECT);
    int64_t rows = round_half_even(h / unit), columns = round_half_even(w / unit);
    if (rows < 1) rows = 1;
    if (columns < 1) columns = 1;
    const double area = (double)(rows * columns) * unit * unit;
    if (area > (double)pixels) {
        const double beta = sqrt(h * w / (double)pixels);
        rows = (int64_t)floor(h / beta / unit);
        columns = (int64_t)floor(w / beta / unit);
        if (rows < 1) rows = 1;
        if (columns < 1) columns = 1;
    } else if (area < (double)pixels) {
        const double beta = sqrt((double)pixels / (h * w));
        rows = (int64_t)ceil(h * beta / unit);
        columns = (int64_t)ceil(w * beta / unit);
    }
    if ((double)(rows > columns ? rows : columns) * unit > IMAGE_MAX_SIDE)
        return fail(err, DRPO_E_INPUT, "a picture of %d x %d would be resized to more than %d pixels a side; crop it",
                    width, height, IMAGE_MAX_SIDE);
    *out_height = (int)(rows * (int64_t)unit);
    *out_width = (int)(columns * (int64_t)unit);
    return 0;
}

int64_t qwen2_vl_patch_numbers(const QwenVisionConfig *c) {
    return (int64_t)c->channels * c->temporal * c->patch * c->patch;
}

/* Patches in the order of the network: cell by cell of merge x merge, row by row within each. */
typedef struct PatchOrder {
    int columns, merge; /* patches in a row of the picture */
} PatchOrder;

static void patch_place(const PatchOrder *o, int index, int *row, int *column) {
    const int cell = index / (o->merge * o->merge), inside = index % (o->merge * o->merge);
    const int cells = o->columns / o->merge;
    *row = cell / cells * o->merge + inside / o->merge;
    *column = cell % cells * o->merge + inside % o->merge;
}

static float *patch_plane(const QwenVisionConfig *c, const uint8_t *rgb, int width, int channel, float *out) {
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    for (int y = 0; y < c->patch; y++)
        for (int x = 0; x < c->patch; x++) {
            const float value = (float)rgb[((size_t)y * (size_t)width + (size_t)x) * 3 + (size_t)channel] / 255;
            *out++ = (value - mean[channel]) / deviation[channel];
        }
    return out;
}

void qwen2_vl_patches(const QwenVisionConfig *c, const uint8_t *rgb, int width, int height, float *patches) {
    const PatchOrder order = {width / c->patch, c->merge};
    const int count = width / c->patch * (height / c->patch);
    for (int i = 0; i < count; i++) {
        int row, column;
        patch_place(&order, i, &row, &column);
        const uint8_t *corner = rgb + ((size_t)(row * c->patch) * (size_t)width + (size_t)(column * c->patch)) * 3;
        for (int channel = 0; channel < c->channels; channel++)
            for (int frame = 0; frame < c->temporal; frame++) /* a still picture: all frames are equal */
                patches = patch_plane(c, corner, width, channel, patches);
    }
}

/* float32 as the published model computes it: positions in the hundreds make its rounding visible. */
static float frequency(double theta, int pair, int size) {
    return 1 / powf((float)theta, (float)(2 * pair) / (float)size);
}

static void put_angle(float *cosine, float *sine, int pair, int half, float angle) {
    cosine[pair] = cosine[pair + half] = cosf(angle);
    sine[pair] = sine[pair + half] = sinf(angle);
}

void qwen2_vl_vision_angles(const QwenVisionConfig *c, int rows, int columns, float *cosine, float *sine) {
    const PatchOrder order = {columns, c->merge};
    const int size = c->width / c->heads, half = size / 2, quarter = half / 2;
    for (int i = 0; i < rows * columns; i++, cosine += size, sine += size) {
        int row, column;
        patch_place(&order, i, &row, &column);
        for (int k = 0; k < quarter; k++) {
            const float f = frequency(c->theta, k, half);
            put_angle(cosine, sine, k, half, (float)row * f);
            put_angle(cosine, sine, quarter + k, half, (float)column * f);
        }
    }
}

void qwen2_vl_text_angles(const Qwen2VlConfig *c, const int32_t *position, int tokens, float *cosine, float *sine) {
    const int size = c->width / c->heads, half = size / 2;
    for (int t = 0; t < tokens; t++, cosine += size, sine += size)
        for (int k = 0; k < half; k++) {
            const int axis = k < c->section[0] ? 0 : k < c->section[0] + c->section[1] ? 1 : 2;
            put_angle(cosine, sine, k, half, (float)position[axis * tokens + t] * frequency(c->theta, k, size));
        }
}
