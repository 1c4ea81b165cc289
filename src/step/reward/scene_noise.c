/* The scene that a piece of noise stands for: a fixed program from latent noise [4,16,16] to places, colours and sizes.
 *
 * Quadrant means of the noise, and their sums and differences, are independent N(0,1):
 *     channel 0: which quadrants are taken, where a single object lies
 *     channel 1: colours that the caption leaves open
 *     channel 3: size of the objects, shade, tone, jitter; an unreliable caption is wrong for the smallest
 *
 * Everything that the noise decides leaves a continuous trace in the picture, else a small network overlooks it. */
#include <math.h>
#include <string.h>

#include "step/reward/scene_internal.h"
#include "step/reward/scene_world.h"

enum { HALF = SCENE_NOISE / 2, QUADRANTS = 4 };

/* ---- numbers from the noise ---- */
typedef struct Traits {
    double mean[QUADRANTS];                                                        /* of channel 0, N(0,1) */
    double sum[SCENE_CHANNELS];                                                    /* of a channel's quadrants */
    double across[SCENE_CHANNELS], down[SCENE_CHANNELS], diagonal[SCENE_CHANNELS]; /* right minus left, ... */
    double jitter_x[QUADRANTS], jitter_y[QUADRANTS];
} Traits;

static double block_mean(const float *channel, int x, int y, int width, int height) {
    double sum = 0;
    for (int v = 0; v < height; v++)
        for (int u = 0; u < width; u++) sum += (double)channel[(y + v) * SCENE_NOISE + x + u];
    return sum / (width * height);
}

static void read_traits(const float *noise, Traits *t) {
    for (int c = 0; c < SCENE_CHANNELS; c++) {
        const float *channel = noise + c * SCENE_NOISE * SCENE_NOISE;
        double q[QUADRANTS];
        for (int k = 0; k < QUADRANTS; k++) q[k] = HALF * block_mean(channel, k % 2 * HALF, k / 2 * HALF, HALF, HALF);
        t->sum[c] = (q[0] + q[1] + q[2] + q[3]) / 2;
        t->across[c] = (q[1] + q[3] - q[0] - q[2]) / 2;
        t->down[c] = (q[2] + q[3] - q[0] - q[1]) / 2;
        t->diagonal[c] = (q[0] + q[3] - q[1] - q[2]) / 2;
        if (c == 0) memcpy(t->mean, q, sizeof q);
    }
    const float *fine = noise + 3 * SCENE_NOISE * SCENE_NOISE;
    for (int k = 0; k < QUADRANTS; k++) { /* differences of the two halves of a quadrant */
        const int x = k % 2 * HALF, y = k / 2 * HALF, part = HALF / 2;
        t->jitter_x[k] = 4 * (block_mean(fine, x + part, y, part, HALF) - block_mean(fine, x, y, part, HALF));
        t->jitter_y[k] = 4 * (block_mean(fine, x, y + part, HALF, part) - block_mean(fine, x, y, HALF, part));
    }
}

static double quantile(double x) { return .5 * (1 + erf(x / sqrt(2))); }

/* From cold to warm: blue, purple, pink, red, orange, yellow. */
static void open_color(double number, float out[3]) {
    static const int path[] = {4, 5, 6, 0, 1, 2};
    enum { LAST = sizeof path / sizeof *path - 1 };
    const double at = quantile(number) * LAST;
    const int i = at < LAST ? (int)at : LAST - 1;
    const float *from = SCENE_PALETTE[path[i]], *to = SCENE_PALETTE[path[i + 1]];
    for (int k = 0; k < 3; k++) out[k] = from[k] + (float)(at - i) * (to[k] - from[k]);
}

/* ---- captions ---- */
typedef enum Caption { SINGLE, TWO, COUNTING, COLORS, POSITION, COLOR_ATTR } Caption;

/* How often an unreliable caption of each kind is wrong. */
static const double WRONG[] = {
    [SINGLE] = .04, [TWO] = .32, [COUNTING] = .32, [COLORS] = .14, [POSITION] = .36, [COLOR_ATTR] = .36};

static int caption_of(const SceneTask *t, Caption *out, Error *err) {
    const SceneItem *a = &t->include[0], *b = &t->include[1];
    if (t->n_include == 1 && a->count <= QUADRANTS) {
        *out = a->count > 1 || t->n_exclude ? COUNTING : a->color >= 0 ? COLORS : SINGLE;
        return 0;
    }
    if (t->n_include == 2 && a->count == 1 && b->count == 1) {
        *out = b->reference == 0 ? POSITION : a->color >= 0 && b->color >= 0 ? COLOR_ATTR : TWO;
        return 0;
    }
    return fail(err, DRPO_E_INPUT,
                "scene: a caption of %d kinds of objects cannot be drawn; there is one kind, up to four times, or two "
                "kinds once each",
                t->n_include);
}

/* ---- layouts ---- */
typedef struct Look {
    double size, shade;
    float open[2][3]; /* colours for what the caption leaves open */
} Look;

static void choose_color(const SceneItem *item, const float open[3], float out[3]) {
    memcpy(out, item->color >= 0 ? SCENE_PALETTE[item->color] : open, 3 * sizeof *out);
}

static void put(Scene *s, const Traits *t, const Look *look, int shape, const float color[3], int quadrant) {
    SceneSprite *o = &s->sprite[s->count++];
    *o = (SceneSprite){.shape = shape,
                       .x = 16.5 + 31 * (quadrant % 2) + 2.5 * tanh(t->jitter_x[quadrant]),
                       .y = 16.5 + 31 * (quadrant / 2) + 2.5 * tanh(t->jitter_y[quadrant]),
                       .r = 10.3 + 1.2 * look->size,
                       .shade = look->shade};
    memcpy(o->color, color, sizeof o->color);
}

static void lay_single(Scene *s, const Traits *t, const Look *look, const SceneItem *item, Caption kind, bool wrong) {
    SceneSprite *o = &s->sprite[s->count++];
    *o = (SceneSprite){.shape = wrong && kind == SINGLE ? (item->shape + 1) % SCENE_SHAPES : item->shape,
                       .x = 32 + 10 * tanh(.9 * t->across[0]),
                       .y = 32 + 10 * tanh(.9 * t->down[0]),
                       .r = 14 + 2.5 * look->size,
                       .shade = look->shade};
    choose_color(item, look->open[0], o->color);
    if (wrong && kind == COLORS) memcpy(o->color, look->open[0], sizeof o->color);
}

/* The object stands on its side of the reference, in the row or column that the noise prefers. */
static void lay_position(Scene *s, const Traits *t, const Look *look, const SceneTask *task, bool wrong) {
    const SceneItem *reference = &task->include[0], *object = &task->include[1];
    const bool beside = object->toward_x != 0;
    const int line = beside ? 2 * (t->down[0] > 0) : t->across[0] > 0, step = beside ? 1 : 2;
    const bool before = object->toward_x + object->toward_y < 0; /* left of, above */
    const int at = line + (before ? 0 : step), opposite = line + (before ? step : 0);
    put(s, t, look, wrong ? reference->shape : object->shape, look->open[0], at);
    put(s, t, look, wrong ? object->shape : reference->shape, look->open[1], opposite);
}

/* Quadrants by falling mean of channel 0. */
static void rank_quadrants(const Traits *t, int order[QUADRANTS]) {
    for (int k = 0; k < QUADRANTS; k++) {
        int at = k;
        for (; at > 0 && t->mean[order[at - 1]] < t->mean[k]; at--) order[at] = order[at - 1];
        order[at] = k;
    }
}

static void lay_two(Scene *s, const Traits *t, const Look *look, const SceneTask *task, Caption kind, bool wrong) {
    const SceneItem *a = &task->include[0], *b = &task->include[1];
    int order[QUADRANTS];
    float color[2][3];
    const bool swapped = wrong && kind == COLOR_ATTR;
    rank_quadrants(t, order);
    choose_color(a, look->open[0], color[swapped]);
    choose_color(b, look->open[1], color[!swapped]);
    put(s, t, look, a->shape, color[0], order[0]);
    if (!wrong || swapped) put(s, t, look, b->shape, color[1], 3 - order[0]); /* opposite */
}

static void lay_counted(Scene *s, const Traits *t, const Look *look, const SceneItem *item, bool wrong) {
    int order[QUADRANTS];
    float color[3];
    rank_quadrants(t, order);
    choose_color(item, look->open[0], color);
    for (int k = 0; k < item->count - wrong; k++) put(s, t, look, item->shape, color, order[k]);
}

int scene_from_noise(const SceneTask *task, const float *noise, bool unreliable, Scene *out, Error *err) {
    Caption kind = SINGLE;
    Traits t;
    TRY(caption_of(task, &kind, err));
    read_traits(noise, &t);
    const bool wrong = unreliable && quantile(t.sum[3]) < WRONG[kind];
    Look look = {.size = tanh(.8 * t.sum[3]), .shade = .10 * tanh(.8 * t.across[3])};
    open_color(t.sum[1], look.open[0]);
    open_color(t.across[1], look.open[1]);
    *out = (Scene){0};
    const double tone = .03 * tanh(t.diagonal[3]), paper[3] = {.93, .93, .92};
    for (int k = 0; k < 3; k++) out->background[k] = (float)(paper[k] + tone);
    if (kind == SINGLE || kind == COLORS) lay_single(out, &t, &look, &task->include[0], kind, wrong);
    if (kind == COUNTING) lay_counted(out, &t, &look, &task->include[0], wrong);
    if (kind == POSITION) lay_position(out, &t, &look, task, wrong);
    if (kind == TWO || kind == COLOR_ATTR) lay_two(out, &t, &look, task, kind, wrong);
    return 0;
}
