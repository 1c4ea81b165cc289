/* Scene: the embedded world's verifier as a task parser and a verdict.
 *
 *     reward = 0.5 * correct + 0.5 * partial credit
 *
 * Metadata is GenEval's: {"tag", "include": [{"class", "count", "color"?, "position": [relation, index]?}], "exclude":
 * [...]}. */
#include "step/reward/scene.h"

#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "step/reward/scene_internal.h"

const char *const SCENE_SHAPE_NAMES[SCENE_SHAPES] = {"circle", "square", "triangle", "star",
                                                     "heart",  "cross",  "ring",     "moon"};
const char *const SCENE_COLOR_NAMES[SCENE_COLORS] = {"red",  "orange", "yellow", "green",
                                                     "blue", "purple", "pink",   "black"};

typedef struct Relation {
    const char *name;
    double x, y;
} Relation;

static const Relation RELATIONS[] = {{"left of", -1, 0}, {"right of", 1, 0}, {"above", 0, -1}, {"below", 0, 1}};
enum { N_RELATIONS = sizeof RELATIONS / sizeof *RELATIONS };

static int find_name(const char *what, const char *name, const char *const *names, int count, int *out, Error *err) {
    char list[256] = "";
    for (int k = 0; k < count; k++) {
        if (strcmp(name, names[k]) == 0) {
            *out = k;
            return 0;
        }
        strncat(list, k ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, names[k], sizeof list - strlen(list) - 1);
    }
    return fail(err, DRPO_E_INPUT, "scene: the metadata names the %s '%s'; known are %s", what, name, list);
}

static int parse_position(const json_t *position, int index, SceneItem *item, Error *err) {
    const char *name = json_string_value(json_array_get(position, 0));
    const json_t *reference = json_array_get(position, 1);
    if (!name || !json_is_integer(reference))
        return fail(err, DRPO_E_INPUT, "scene: 'position' must be [relation, index of an earlier include entry]");
    item->reference = (int)json_integer_value(reference);
    if (item->reference < 0 || item->reference >= index)
        return fail(err, DRPO_E_INPUT, "scene: 'position' refers to include entry %d; it must come before entry %d",
                    item->reference, index);
    const char *names[N_RELATIONS];
    for (int k = 0; k < N_RELATIONS; k++) names[k] = RELATIONS[k].name;
    int relation = 0;
    TRY(find_name("relation", name, names, N_RELATIONS, &relation, err));
    item->toward_x = RELATIONS[relation].x;
    item->toward_y = RELATIONS[relation].y;
    return 0;
}

static int parse_item(const json_t *value, int index, SceneItem *item, Error *err) {
    *item = (SceneItem){.color = -1, .reference = -1};
    const char *shape = json_string_value(json_object_get(value, "class"));
    const json_t *count = json_object_get(value, "count"), *color = json_object_get(value, "color");
    if (!shape) return fail(err, DRPO_E_INPUT, "scene: an entry of the metadata has no \"class\"");
    TRY(find_name("class", shape, SCENE_SHAPE_NAMES, SCENE_SHAPES, &item->shape, err));
    item->count = count ? (int)json_integer_value(count) : 1;
    if (item->count < 1 || item->count > SCENE_MAX_OBJECTS)
        return fail(err, DRPO_E_INPUT, "scene: \"count\" of class '%s' must be a whole number from 1 to %d", shape,
                    SCENE_MAX_OBJECTS);
    if (color && !json_is_string(color))
        return fail(err, DRPO_E_INPUT, "scene: \"color\" of class '%s' must be a text", shape);
    if (color) TRY(find_name("colour", json_string_value(color), SCENE_COLOR_NAMES, SCENE_COLORS, &item->color, err));
    const json_t *position = json_object_get(value, "position");
    return position ? parse_position(position, index, item, err) : 0;
}

static int parse_items(const json_t *list, const char *key, SceneItem *items, int *count, Error *err) {
    if (list && !json_is_array(list))
        return fail(err, DRPO_E_INPUT, "scene: \"%s\" in the metadata must be a list", key);
    *count = (int)json_array_size(list);
    if (*count > SCENE_MAX_ITEMS)
        return fail(err, DRPO_E_INPUT, "scene: \"%s\" has %d entries; at most %d", key, *count, SCENE_MAX_ITEMS);
    for (int i = 0; i < *count; i++) TRY(parse_item(json_array_get(list, (size_t)i), i, &items[i], err));
    return 0;
}

static int fill_task(const json_t *root, SceneTask *t, Error *err) {
    TRY(parse_items(json_object_get(root, "include"), "include", t->include, &t->n_include, err));
    TRY(parse_items(json_object_get(root, "exclude"), "exclude", t->exclude, &t->n_exclude, err));
    if (t->n_include == 0)
        return fail(
            err, DRPO_E_INPUT,
            "scene: the metadata has no \"include\"; this reward needs a .jsonl prompt file with GenEval-style lines");
    for (int i = 0; i < t->n_include; i++) t->wanted += t->include[i].count;
    return 0;
}

int scene_task_parse(const char *metadata_json, SceneTask **out, Error *err) {
    *out = NULL;
    if (!metadata_json)
        return fail(
            err, DRPO_E_INPUT,
            "scene: this prompt has no metadata; this reward needs a .jsonl prompt file with GenEval-style lines");
    json_t *root = NULL;
    TRY(json_load_text("scene metadata", metadata_json, strlen(metadata_json), &root, err));
    SceneTask *t = calloc(1, sizeof *t);
    const int code = t ? fill_task(root, t, err) : fail(err, DRPO_E_MEMORY, "no memory for a scene task");
    json_decref(root);
    if (code < 0)
        free(t);
    else
        *out = t;
    return code;
}

void scene_task_free(SceneTask *t) { free(t); }

int scene_verify(const SceneTask *task, const uint8_t *rgb, int height, int width, SceneVerdict *out, Error *err) {
    if (height != SCENE_SIZE || width != SCENE_SIZE)
        return fail(err, DRPO_E_INPUT,
                    "scene: pictures of %d x %d pixels; this verifier knows %d x %d, the embedded model's size", width,
                    height, SCENE_SIZE, SCENE_SIZE);
    SceneObject objects[SCENE_MAX_OBJECTS];
    const int count = scene_detect(rgb, objects);
    out->correct = scene_correct(task, objects, count);
    out->soft = (float)scene_soft(task, objects, count);
    out->reward = 0.5f * (out->correct ? 1.0f : 0.0f) + 0.5f * out->soft;
    return 0;
}
