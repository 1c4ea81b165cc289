/* Detection: components that differ from the background, their shape by template correlation, their colour by distance.
 *
 * The background is the median of the border; a component's coverage alpha is its contrast divided by its 70th
 * percentile, so that soft edges and tinted shades do not matter. In the update: decode -> reward. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/scene_internal.h"

enum { PIXELS = SCENE_SIZE * SCENE_SIZE, BORDER = 4 * SCENE_SIZE - 4 };

static const float FOREGROUND = 0.20f; /* contrast of an object's pixel */
static const double SHAPE_MIN = 0.92;  /* correlation below which it is no shape */
static const double COLOR_MAX = 0.36;  /* distance above which it is no colour */

const float SCENE_PALETTE[SCENE_COLORS][3] = {{.86f, .16f, .16f}, {.95f, .53f, .10f}, {.94f, .86f, .16f},
                                              {.16f, .65f, .25f}, {.15f, .38f, .88f}, {.52f, .20f, .70f},
                                              {.96f, .58f, .76f}, {.12f, .12f, .14f}};

static int by_value(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float border_median(const float *image, int channel) {
    float value[BORDER];
    int n = 0;
    for (int k = 0; k < SCENE_SIZE; k++) {
        value[n++] = image[k * 3 + channel];
        value[n++] = image[((SCENE_SIZE - 1) * SCENE_SIZE + k) * 3 + channel];
    }
    for (int y = 1; y < SCENE_SIZE - 1; y++) {
        value[n++] = image[y * SCENE_SIZE * 3 + channel];
        value[n++] = image[(y * SCENE_SIZE + SCENE_SIZE - 1) * 3 + channel];
    }
    qsort(value, BORDER, sizeof *value, by_value);
    return (value[BORDER / 2 - 1] + value[BORDER / 2]) / 2;
}

/* contrast [64,64]: largest channel difference from the background */
static void find_contrast(const float *image, float *contrast, signed char *channel) {
    memset(contrast, 0, PIXELS * sizeof *contrast);
    memset(channel, 0, PIXELS);
    for (int c = 0; c < 3; c++) {
        const float background = border_median(image, c);
        for (int i = 0; i < PIXELS; i++) {
            const float above = image[i * 3 + c] - background;
            if (fabsf(above) <= contrast[i]) continue;
            contrast[i] = fabsf(above);
            channel[i] = (signed char)(above > 0 ? c : c + 3);
        }
    }
}

/* Collects the 4-connected component of pixel `start` into `pixel`, marks it seen, returns its size. */
static int flood(const float *contrast, bool *seen, int start, int *pixel) {
    int count = 0;
    pixel[count++] = start;
    seen[start] = true;
    for (int at = 0; at < count; at++) {
        const int x = pixel[at] % SCENE_SIZE, y = pixel[at] / SCENE_SIZE;
        const int next[4] = {x > 0 ? pixel[at] - 1 : -1, x < SCENE_SIZE - 1 ? pixel[at] + 1 : -1,
                             y > 0 ? pixel[at] - SCENE_SIZE : -1, y < SCENE_SIZE - 1 ? pixel[at] + SCENE_SIZE : -1};
        for (int k = 0; k < 4; k++)
            if (next[k] >= 0 && !seen[next[k]] && contrast[next[k]] > FOREGROUND) {
                seen[next[k]] = true;
                pixel[count++] = next[k];
            }
    }
    return count;
}

/* alpha [64,64]: coverage of one component, 0 elsewhere */
static float find_coverage(const float *contrast, const int *pixel, int count, float *alpha) {
    float sorted[PIXELS];
    for (int k = 0; k < count; k++) sorted[k] = contrast[pixel[k]];
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    const float strength = sorted[(int)(0.7 * (count - 1))];
    memset(alpha, 0, PIXELS * sizeof *alpha);
    for (int k = 0; k < count; k++) alpha[pixel[k]] = scene_coverage(contrast[pixel[k]], strength);
    return strength;
}

static void find_box(const float *alpha, SceneObject *o) {
    *o = (SceneObject){.x0 = SCENE_SIZE, .y0 = SCENE_SIZE, .x1 = 0, .y1 = 0};
    for (int i = 0; i < PIXELS; i++) {
        if (alpha[i] <= 0.5f) continue;
        const int x = i % SCENE_SIZE, y = i / SCENE_SIZE;
        if (x < o->x0) o->x0 = x;
        if (y < o->y0) o->y0 = y;
        if (x + 1 > o->x1) o->x1 = x + 1;
        if (y + 1 > o->y1) o->y1 = y + 1;
    }
}

static double sample_bilinear(const float *alpha, SceneSample at) {
    const float *a = alpha + at.y * SCENE_SIZE + at.x;
    const double fx = at.right, fy = at.down;
    return a[0] * (1 - fx) * (1 - fy) + a[1] * fx * (1 - fy) + a[SCENE_SIZE] * (1 - fx) * fy +
           a[SCENE_SIZE + 1] * fx * fy;
}

SceneSample scene_sample(const SceneObject *o, int k) {
    const int width = o->x1 - o->x0, height = o->y1 - o->y0;
    const double cx = (o->x0 + o->x1) / 2.0, cy = (o->y0 + o->y1) / 2.0, side = 1.1 * (width > height ? width : height);
    const double u = (k % SCENE_GRID + 0.5) / SCENE_GRID - 0.5, v = (k / SCENE_GRID + 0.5) / SCENE_GRID - 0.5;
    const double x = fmin(fmax(cx + side * u - 0.5, 0), SCENE_SIZE - 1.001),
                 y = fmin(fmax(cy + side * v - 0.5, 0), SCENE_SIZE - 1.001);
    return (SceneSample){(int)x, (int)y, x - (int)x, y - (int)y};
}

/* Coverage on a square grid round the box, against the templates. */
static void find_shape(const float *alpha, SceneObject *o) {
    double grid[SCENE_GRID * SCENE_GRID], mean = 0, power = 0;
    for (int k = 0; k < SCENE_GRID * SCENE_GRID; k++) {
        grid[k] = sample_bilinear(alpha, scene_sample(o, k));
        mean += grid[k] / (SCENE_GRID * SCENE_GRID);
    }
    for (int k = 0; k < SCENE_GRID * SCENE_GRID; k++) power += (grid[k] - mean) * (grid[k] - mean);
    const double norm = fmax(sqrt(power), 1e-6);
    int best = 0;
    for (int s = 0; s < SCENE_SHAPES; s++) {
        double sum = 0;
        for (int k = 0; k < SCENE_GRID * SCENE_GRID; k++) sum += SCENE_TEMPLATES[s][k] * ((grid[k] - mean) / norm);
        o->correlation[s] = sum;
        if (sum > o->correlation[best]) best = s;
    }
    o->best = o->correlation[best];
    o->shape = o->best >= SHAPE_MIN ? best : -1;
}

/* Mean colour of the well-covered pixels, against the palette. */
static void find_color(const float *image, const float *alpha, const int *pixel, int count, SceneObject *o) {
    double sum[3] = {0}, whole[3] = {0};
    int core = 0;
    for (int k = 0; k < count; k++) {
        const bool covered = alpha[pixel[k]] > 0.85f;
        core += covered;
        for (int c = 0; c < 3; c++) {
            whole[c] += image[pixel[k] * 3 + c];
            if (covered) sum[c] += image[pixel[k] * 3 + c];
        }
    }
    int best = 0;
    for (int k = 0; k < SCENE_COLORS; k++) {
        double square = 0;
        for (int c = 0; c < 3; c++) {
            const double v = SCENE_PALETTE[k][c] - (core ? sum[c] / core : whole[c] / count);
            square += v * v;
        }
        o->distance[k] = sqrt(square);
        if (o->distance[k] < o->distance[best]) best = k;
    }
    o->color = o->distance[best] <= COLOR_MAX ? best : -1;
}

int scene_detect_image(const float *image, SceneObject objects[SCENE_MAX_OBJECTS], SceneTrace *trace) {
    float contrast[PIXELS], alpha[PIXELS];
    signed char channel[PIXELS];
    bool seen[PIXELS] = {false};
    int pixel[PIXELS], found = 0, traced = 0;
    find_contrast(image, contrast, channel);
    for (int start = 0; start < PIXELS; start++) {
        if (seen[start] || contrast[start] <= FOREGROUND) continue;
        const int count = flood(contrast, seen, start, pixel);
        if (count < SCENE_MIN_AREA) continue;
        SceneObject *o = &objects[found++];
        const float strength = find_coverage(contrast, pixel, count, alpha);
        find_box(alpha, o);
        find_shape(alpha, o);
        find_color(image, alpha, pixel, count, o);
        if (!trace) continue;
        trace->first[found - 1] = traced;
        trace->count[found - 1] = count;
        trace->strength[found - 1] = strength;
        memcpy(trace->pixel + traced, pixel, (size_t)count * sizeof *pixel);
        traced += count;
    }
    if (!trace) return found;
    memcpy(trace->image, image, sizeof trace->image);
    memcpy(trace->contrast, contrast, sizeof contrast);
    memcpy(trace->channel, channel, sizeof channel);
    return found;
}

int scene_detect(const uint8_t *rgb, SceneObject objects[SCENE_MAX_OBJECTS]) {
    float image[PIXELS * 3];
    for (int i = 0; i < PIXELS * 3; i++) image[i] = rgb[i] / 255.0f;
    return scene_detect_image(image, objects, NULL);
}
