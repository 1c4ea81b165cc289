/* GenEval's rule: which detections count, and whether they fulfil the clauses of a prompt. See geneval.h.
 *
 *     keep   score > threshold, surest first, at most 16 of a class
 *     for each include clause: the first `count` of its class; all have the colour; all stand so to all of the target
 *     for each exclude clause: fewer than `count` of its class
 *
 * More objects than asked for are no mistake: only exclude clauses say so. In the update: the heart of a reward. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/geneval.h"

const GenevalOptions geneval_defaults = {
    .threshold = 0.3, .counting_threshold = 0.9, .max_overlap = 1, .position_threshold = 0.1, .max_objects = 16};

/* ---- what counts ---- */

static double span(double low, double high) { return fmax(high - low + 1, 0); } /* pixels are counted at both ends */

static double overlap(const double a[4], const double b[4]) {
    const double shared = span(fmax(a[0], b[0]), fmin(a[2], b[2])) * span(fmax(a[1], b[1]), fmin(a[3], b[3]));
    const double all = span(a[0], a[2]) * span(a[1], a[3]) + span(b[0], b[2]) * span(b[1], b[3]) - shared;
    return all > 0 ? shared / all : 0;
}

/* Places an object among those of its class, surest first; equal scores keep their order. */
static void insert(const GenevalObject **list, int n, const GenevalObject *o) {
    for (; n > 0 && list[n - 1]->score < o->score; n--) list[n] = list[n - 1];
    list[n] = o;
}

static int drop_overlapping(const GenevalObject **list, int n, double limit) {
    int kept = 0;
    for (int i = 0; i < n; i++) {
        bool hidden = false;
        for (int k = 0; k < kept && !hidden && limit != 1; k++) hidden = overlap(list[k]->box, list[i]->box) >= limit;
        if (!hidden) list[kept++] = list[i];
    }
    return kept;
}

int geneval_keep(const GenevalTask *task, const GenevalOptions *o, const GenevalObject *objects, int n,
                 GenevalKept *out, Error *err) {
    const double threshold = strcmp(task->tag, "counting") == 0 ? o->counting_threshold : o->threshold;
    *out = (GenevalKept){.object = malloc((size_t)(n > 0 ? n : 1) * sizeof *out->object)};
    if (!out->object) return fail(err, DRPO_E_MEMORY, "no memory for %d detections", n);
    for (int class = 0, first = 0; class < GENEVAL_CLASSES; class ++) {
        const GenevalObject **list = out->object + first;
        int count = 0;
        for (int i = 0; i < n; i++)
            if (objects[i].class == class && objects[i].score > threshold) insert(list, count++, &objects[i]);
        if (count > o->max_objects) count = o->max_objects;
        first += drop_overlapping(list, count, o->max_overlap);
        out->first[class + 1] = first;
    }
    return 0;
}

void geneval_kept_free(GenevalKept *k) {
    free(k->object);
    *k = (GenevalKept){0};
}

/* ---- where things stand ---- */

unsigned geneval_relations(const double a[4], const double b[4], double threshold) {
    double offset[2], reduced[2];
    for (int axis = 0; axis < 2; axis++) {
        offset[axis] = (a[axis] + a[axis + 2]) / 2 - (b[axis] + b[axis + 2]) / 2;
        const double sizes = fabs(a[axis + 2] - a[axis]) + fabs(b[axis + 2] - b[axis]);
        reduced[axis] = copysign(fmax(fabs(offset[axis]) - threshold * sizes, 0), offset[axis]);
    }
    if (fabs(reduced[0]) < 1e-3 && fabs(reduced[1]) < 1e-3) return 0;
    const double length = hypot(offset[0], offset[1]), x = reduced[0] / length, y = reduced[1] / length;
    return (x < -0.5) | (x > 0.5) << 1 | (y < -0.5) << 2 | (y > 0.5) << 3;
}

/* ---- clauses ---- */

typedef struct Judge {
    const GenevalTask *task;
    const GenevalOptions *options;
    const GenevalKept *kept;
    GenevalColorist colorist;
    void *user;
    bool matched[GENEVAL_MAX_CLAUSES];
    GenevalVerdict *verdict;
    Error *err;
} Judge;

static const GenevalObject *const *objects_of(const Judge *j, int class, int *n) {
    *n = j->kept->first[class + 1] - j->kept->first[class];
    return j->kept->object + j->kept->first[class];
}

__attribute__((format(printf, 2, 3))) static void add_reason(Judge *j, const char *format, ...) {
    char *text = j->verdict->reason;
    const size_t size = sizeof j->verdict->reason;
    size_t length = strlen(text);
    if (length && length + 1 < size) text[length++] = '\n';
    va_list args;
    va_start(args, format);
    vsnprintf(text + length, size - length, format, args);
    va_end(args);
    j->verdict->correct = false;
}

/* The detector's own word. */
static int said_colors(const GenevalObject *const *objects, int n, int class, int *colors, Error *err) {
    for (int i = 0; i < n; i++) {
        colors[i] = objects[i]->color;
        if (colors[i] < 0)
            return fail(
                err, DRPO_E_REWARD,
                "the detector names no color of a %s: have it answer with \"color\", or give CLIP by ?clip=PATH",
                geneval_class_name[class]);
    }
    return 0;
}

static int check_color(Judge *j, const GenevalClause *c, const GenevalObject *const *found, bool *holds) {
    int count[GENEVAL_COLORS] = {0}, *colors = calloc((size_t)c->count, sizeof *colors);
    char seen[160] = "";
    if (!colors) return fail(j->err, DRPO_E_MEMORY, "no memory for the colors of %d objects", c->count);
    const int code = j->colorist ? j->colorist(j->user, c->class, found, c->count, colors, j->err)
                                 : said_colors(found, c->count, c->class, colors, j->err);
    for (int i = 0; i < c->count && code == 0; i++)
        if (colors[i] >= 0 && colors[i] < GENEVAL_COLORS) count[colors[i]]++;
    free(colors);
    TRY(code);
    *holds = count[c->color] >= c->count;
    if (*holds) return 0;
    for (int k = 0; k < GENEVAL_COLORS; k++)
        if (count[k])
            snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s%d %s", *seen ? ", " : "", count[k],
                     geneval_color_name[k]);
    const char *wanted = geneval_color_name[c->color];
    add_reason(j, "expected %s %s>=%d, found %d %s; and %s", wanted, geneval_class_name[c->class], c->count,
               count[c->color], wanted, seen);
    return 0;
}

static void relation_text(unsigned relations, char *text, size_t size) {
    *text = 0;
    for (int k = 0; k < GENEVAL_RELATIONS; k++)
        if (relations >> k & 1)
            snprintf(text + strlen(text), size - strlen(text), "%s%s", *text ? " and " : "", geneval_relation_name[k]);
}

/* Every one of the clause's objects to every one of the target's. */
static bool check_position(Judge *j, const GenevalClause *c, const GenevalObject *const *found) {
    const GenevalClause *target = &j->task->include[c->target];
    const char *name = geneval_class_name[c->class], *wanted = geneval_relation_name[c->relation];
    int n;
    const GenevalObject *const *others = objects_of(j, target->class, &n);
    if (!j->matched[c->target]) {
        add_reason(j, "no target for %s to be %s", name, wanted);
        return false;
    }
    for (int i = 0; i < c->count; i++)
        for (int k = 0; k < target->count; k++) {
            const unsigned has = geneval_relations(found[i]->box, others[k]->box, j->options->position_threshold);
            char text[64];
            if (has >> c->relation & 1) continue;
            relation_text(has, text, sizeof text);
            add_reason(j, "expected %s %s target, found %s target", name, wanted, text);
            return false;
        }
    return true;
}

static int check_include(Judge *j, int index) {
    const GenevalClause *c = &j->task->include[index];
    int n;
    const GenevalObject *const *found = objects_of(j, c->class, &n);
    bool holds = n >= c->count;
    if (!holds) add_reason(j, "expected %s>=%d, found %d", geneval_class_name[c->class], c->count, n);
    if (holds && c->color >= 0) TRY(check_color(j, c, found, &holds));
    if (holds && c->relation >= 0) holds = check_position(j, c, found);
    j->matched[index] = holds;
    return 0;
}

int geneval_judge(const GenevalTask *task, const GenevalOptions *o, const GenevalKept *kept, GenevalColorist colorist,
                  void *user, GenevalVerdict *out, Error *err) {
    Judge j = {task, o, kept, colorist, user, {false}, out, err};
    *out = (GenevalVerdict){.correct = true};
    for (int i = 0; i < task->includes; i++) TRY(check_include(&j, i));
    for (int i = 0; i < task->excludes; i++) {
        const GenevalClause *c = &task->exclude[i];
        int n;
        objects_of(&j, c->class, &n);
        if (n >= c->count) add_reason(&j, "expected %s<%d, found %d", geneval_class_name[c->class], c->count, n);
    }
    return 0;
}
