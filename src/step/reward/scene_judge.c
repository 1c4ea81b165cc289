/* Judgement: GenEval's order of checks for the verdict, and partial credit for the ranking.
 *
 * Stricter than GenEval in one respect: nothing may be left over, else drawing everything everywhere would win. */
#include <math.h>

#include "step/reward/scene_internal.h"

static const double DEAD_BAND = 0.1; /* share of the two sizes that an offset must exceed to count */

/* How far `a` lies from `b` in the item's direction, in -1..1: centre offset, shrunk by the dead band, over its length.
 */
static double along(const SceneItem *item, const SceneObject *a, const SceneObject *b) {
    const double ox = (a->x0 + a->x1 - b->x0 - b->x1) / 2.0, oy = (a->y0 + a->y1 - b->y0 - b->y1) / 2.0;
    const double length = hypot(ox, oy);
    if (length < 1e-6) return 0;
    const double band_x = DEAD_BAND * (a->x1 - a->x0 + b->x1 - b->x0),
                 band_y = DEAD_BAND * (a->y1 - a->y0 + b->y1 - b->y0);
    const double dx = copysign(fmax(fabs(ox) - band_x, 0), ox) / length,
                 dy = copysign(fmax(fabs(oy) - band_y, 0), oy) / length;
    return dx * item->toward_x + dy * item->toward_y;
}

/* ---- verdict ---- */

typedef struct Group {
    int count, member[SCENE_MAX_OBJECTS];
} Group;

/* Objects of the item's shape and colour, best correlation first; false when there are too few. */
static bool find_group(const SceneItem *item, const SceneObject *objects, int count, bool only_as_many, Group *g) {
    g->count = 0;
    for (int j = 0; j < count; j++) {
        if (objects[j].shape != item->shape || (item->color >= 0 && objects[j].color != item->color)) continue;
        int at = g->count++;
        for (; at > 0 && objects[g->member[at - 1]].best < objects[j].best; at--) g->member[at] = g->member[at - 1];
        g->member[at] = j;
    }
    if (g->count < item->count) return false;
    if (only_as_many) g->count = item->count;
    return true;
}

static bool relation_holds(const SceneItem *item, const SceneObject *objects, const Group *g, const Group *reference) {
    for (int a = 0; a < g->count; a++)
        for (int b = 0; b < reference->count; b++)
            if (along(item, &objects[g->member[a]], &objects[reference->member[b]]) <= 0.5) return false;
    return true;
}

bool scene_correct(const SceneTask *task, const SceneObject *objects, int count) {
    if (count > task->wanted) return false;
    Group group[SCENE_MAX_ITEMS];
    for (int i = 0; i < task->n_include; i++) {
        const SceneItem *item = &task->include[i];
        if (!find_group(item, objects, count, task->n_exclude == 0, &group[i])) return false;
        if (item->reference >= 0 && !relation_holds(item, objects, &group[i], &group[item->reference])) return false;
    }
    for (int i = 0; i < task->n_exclude; i++) {
        int found = 0;
        for (int j = 0; j < count; j++) found += objects[j].shape == task->exclude[i].shape;
        if (found >= task->exclude[i].count) return false;
    }
    return true;
}

/* ---- partial credit ---- */

/* Probability that the object is this shape, faded out for objects that resemble no shape. */
static double shape_match(const SceneObject *o, int shape) {
    double sum = 0;
    for (int k = 0; k < SCENE_SHAPES; k++) sum += exp((o->correlation[k] - o->best) / 0.05);
    return exp((o->correlation[shape] - o->best) / 0.05) / sum * fmin(fmax((o->best - 0.6) / 0.35, 0), 1);
}

static double color_match(const SceneObject *o, int color) {
    double sum = 0;
    for (int k = 0; k < SCENE_COLORS; k++) sum += exp((o->distance[color] - o->distance[k]) / 0.08);
    return 1 / sum;
}

static double item_match(const SceneItem *item, const SceneObject *o) {
    const double value = shape_match(o, item->shape);
    return item->color < 0 ? value : value * (0.4 + 0.6 * color_match(o, item->color));
}

typedef struct First {
    int object; /* -1: none was left */
    double value;
} First;

/* Takes the free object with the highest match; 0 when none is left. */
static First take_best(const SceneItem *item, const SceneObject *objects, int count, bool *used) {
    First best = {-1, 0};
    for (int j = 0; j < count; j++) {
        if (used[j]) continue;
        const double value = item_match(item, &objects[j]);
        if (best.object < 0 || value > best.value) best = (First){j, value};
    }
    if (best.object >= 0) used[best.object] = true;
    return best;
}

/* Slopes of softmax: p_a (delta - p_b) / temperature; the fade's own slope hangs on the best correlation. */
double scene_match(const SceneItem *item, const SceneObject *o, double by_correlation[SCENE_SHAPES],
                   double by_distance[SCENE_COLORS]) {
    double p[SCENE_SHAPES], q[SCENE_COLORS], sum = 0;
    for (int k = 0; k < SCENE_SHAPES; k++) sum += p[k] = exp((o->correlation[k] - o->best) / 0.05);
    for (int k = 0; k < SCENE_SHAPES; k++) p[k] /= sum;
    for (int k = 0; k < SCENE_COLORS; k++) q[k] = color_match(o, k);
    const double slope = (o->best - 0.6) / 0.35, fade = fmin(fmax(slope, 0), 1), shape = p[item->shape] * fade;
    const double tint = item->color < 0 ? 1 : 0.4 + 0.6 * q[item->color];
    for (int k = 0; k < SCENE_SHAPES; k++) {
        const double own = fade * p[item->shape] * ((k == item->shape) - p[k]) / 0.05;
        const bool fading = slope > 0 && slope < 1 && o->correlation[k] == o->best;
        by_correlation[k] = tint * (own + (fading ? p[item->shape] / 0.35 : 0));
    }
    for (int k = 0; k < SCENE_COLORS; k++)
        by_distance[k] = item->color < 0 ? 0 : shape * 0.6 * q[item->color] * (q[k] - (k == item->color)) / 0.08;
    return item_match(item, o);
}

static void add_credit(SceneCredits *c, int item, int object, double weight, double value) {
    c->sum += weight * value;
    if (object >= 0) c->credit[c->count++] = (SceneCredit){item, object, weight};
}

void scene_credits(const SceneTask *task, const SceneObject *objects, int count, SceneCredits *out) {
    First first[SCENE_MAX_ITEMS];
    int entries = task->wanted, taken = 0;
    *out = (SceneCredits){0};
    for (int i = 0; i < task->n_include; i++) entries += task->include[i].reference >= 0;
    for (int i = 0; i < task->n_include; i++) {
        first[i] = (First){-1, 0};
        for (int k = 0; k < task->include[i].count; k++) {
            const First got = take_best(&task->include[i], objects, count, out->used);
            add_credit(out, i, got.object, 1.0 / entries, got.value);
            taken += got.object >= 0;
            if (k == 0) first[i] = got;
        }
    }
    for (int i = 0; i < task->n_include; i++) {
        const SceneItem *item = &task->include[i];
        if (item->reference < 0) continue;
        const First a = first[i], b = first[item->reference];
        if (a.object < 0 || b.object < 0) continue;
        const double holds = fmin(fmax(along(item, &objects[a.object], &objects[b.object]) + 0.5, 0), 1);
        const bool lesser = a.value < b.value;
        add_credit(out, lesser ? i : item->reference, lesser ? a.object : b.object, holds / entries,
                   fmin(a.value, b.value));
    }
    out->unused = count - taken;
}

double scene_soft(const SceneTask *task, const SceneObject *objects, int count) {
    SceneCredits c;
    scene_credits(task, objects, count, &c);
    return fmin(fmax(c.sum - 0.1 * c.unused, 0), 1);
}
