/* A detector's answer as objects, checked key by key: it comes from outside. See geneval_reply.h. */
#include "step/reward/geneval_reply.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

int geneval_reply_new(const Pictures *pictures, Arena *a, GenevalReply *out, Error *err) {
    const size_t n = (size_t)pictures->count;
    *out = (GenevalReply){.pictures = pictures->count, .height = pictures->height, .width = pictures->width};
    out->arena = a;
    out->scores = arena_alloc(a, n * sizeof *out->scores);
    out->found = arena_alloc(a, n * sizeof *out->found);
    return out->scores && out->found ? 0 : fail(err, DRPO_E_MEMORY, "no memory for the verdicts of %zu pictures", n);
}

/* Where an object stands, for messages. */
typedef struct Place {
    GenevalReply *reply;
    size_t picture, index;
    char *what;
    size_t size;
} Place;

static bool bad(const Place *p, const char *problem) {
    snprintf(p->what, p->size, "object %zu of picture %zu has %s", p->index + 1, p->picture + 1, problem);
    return false;
}

static bool read_number(const json_t *value, double *out) {
    *out = json_number_value(value);
    return json_is_number(value) && isfinite(*out);
}

static bool read_box(const json_t *value, double box[4]) {
    bool good = json_array_size(value) == 4;
    for (size_t k = 0; k < 4 && good; k++) good = read_number(json_array_get(value, k), &box[k]);
    return good;
}

/* Uncompressed run lengths as COCO has them; they must cover the picture. */
static bool read_mask(const Place *p, const json_t *value, GenevalObject *out) {
    const json_t *size = json_object_get(value, "size"), *counts = json_object_get(value, "counts");
    const size_t n = json_array_size(counts);
    json_int_t covered = 0;
    if (json_integer_value(json_array_get(size, 0)) != p->reply->height ||
        json_integer_value(json_array_get(size, 1)) != p->reply->width)
        return bad(p, "a mask whose \"size\" is not [height, width] of the picture");
    uint32_t *runs = n ? arena_alloc(p->reply->arena, n * sizeof *runs) : NULL;
    if (!runs) return bad(p, "a mask without \"counts\" (a list of run lengths)");
    for (size_t k = 0; k < n; k++) {
        const json_t *run = json_array_get(counts, k);
        if (!json_is_integer(run) || json_integer_value(run) < 0 || json_integer_value(run) > (1 << 28))
            return bad(p, "a mask whose \"counts\" are no lengths");
        covered += runs[k] = (uint32_t)json_integer_value(run);
    }
    if (covered != (json_int_t)p->reply->height * p->reply->width)
        return bad(p, "a mask whose \"counts\" do not add up to height * width");
    out->runs = runs;
    out->n_runs = (int)n;
    return true;
}

static bool present(const json_t *value) { return value && !json_is_null(value); }

static bool read_object(const Place *p, const json_t *value, GenevalObject *out) {
    const json_t *class = json_object_get(value, "class"), *color = json_object_get(value, "color"),
                 *mask = json_object_get(value, "mask");
    *out = (GenevalObject){.color = -1, .class = geneval_class(json_string_value(class))};
    if (json_is_integer(class)) out->class = (int)json_integer_value(class);
    if (out->class < 0 || out->class >= GENEVAL_CLASSES) return bad(p, "a \"class\" that is none of GenEval's 80");
    if (!read_number(json_object_get(value, "score"), &out->score)) return bad(p, "no finite \"score\"");
    if (!read_box(json_object_get(value, "box"), out->box)) return bad(p, "no \"box\" of four finite numbers");
    if (present(color) && (out->color = geneval_color(json_string_value(color))) < 0)
        return bad(p, "a \"color\" that is none of GenEval's ten");
    return !present(mask) || read_mask(p, mask, out);
}

static bool read_picture(Place *p, const json_t *list) {
    GenevalFound *found = &p->reply->found[p->picture];
    const size_t n = json_array_size(list);
    p->index = 0;
    found->object = arena_alloc(p->reply->arena, (n ? n : 1) * sizeof *found->object);
    if (!json_is_array(list) || n > 100000 || !found->object) {
        snprintf(p->what, p->size, "\"detections\" of picture %zu are no list of objects", p->picture + 1);
        return false;
    }
    for (; p->index < n; p->index++)
        if (!read_object(p, json_array_get(list, p->index), &found->object[p->index])) return false;
    found->count = (int)n;
    return true;
}

static ReplyKind read_detections(GenevalReply *r, const json_t *list, char *what, size_t size) {
    Place place = {.reply = r, .what = what, .size = size};
    if (!json_is_array(list) || json_array_size(list) != (size_t)r->pictures) {
        snprintf(what, size, "it gave detections of %zu pictures, not %d", json_array_size(list), r->pictures);
        return REPLY_FAULT;
    }
    for (; place.picture < (size_t)r->pictures; place.picture++)
        if (!read_picture(&place, json_array_get(list, place.picture))) return REPLY_FAULT;
    r->detected = true;
    return REPLY_SCORES;
}

ReplyKind geneval_reply_read(void *user, const char *line, char *what, size_t size) {
    GenevalReply *r = user;
    json_t *reply = json_loads(line, 0, NULL);
    const json_t *list = json_object_get(reply, "detections");
    const ReplyKind kind =
        list ? read_detections(r, list, what, size) : message_reply(line, r->pictures, r->scores, what, size);
    json_decref(reply);
    return kind;
}
