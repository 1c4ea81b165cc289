/* GenEval's tasks: the metadata of a prompt as clauses, and the names that may stand in them. See geneval.h. */
#include <stdio.h>
#include <string.h>

#include "format/json.h"
#include "step/reward/geneval.h"

const char *const geneval_class_name[GENEVAL_CLASSES] = {
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "computer mouse",
    "tv remote",
    "computer keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
};

const char *const geneval_color_name[GENEVAL_COLORS] = {"red",    "orange", "yellow", "green", "blue",
                                                        "purple", "pink",   "brown",  "black", "white"};

const char *const geneval_relation_name[GENEVAL_RELATIONS] = {"left of", "right of", "above", "below"};

/* COCO's names where the benchmark has its own. */
static const struct {
    const char *coco, *own;
} spellings[] = {{"mouse", "computer mouse"}, {"remote", "tv remote"}, {"keyboard", "computer keyboard"}};

static int find(const char *const *names, int n, const char *name) {
    for (int i = 0; name && i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

int geneval_class(const char *name) {
    for (size_t i = 0; name && i < sizeof spellings / sizeof *spellings; i++)
        if (strcmp(spellings[i].coco, name) == 0) name = spellings[i].own;
    return find(geneval_class_name, GENEVAL_CLASSES, name);
}

int geneval_color(const char *name) { return find(geneval_color_name, GENEVAL_COLORS, name); }

/* Where a clause stands, for messages. */
typedef struct Place {
    const char *list;
    int index;
    Error *err;
} Place;

static int bad(const Place *p, const char *what, const char *value) {
    return fail(p->err, DRPO_E_INPUT, "GenEval metadata: %s[%d] has %s%s%s", p->list, p->index, what, *value ? " " : "",
                value);
}

static const char *text_of(const json_t *value) { return json_is_string(value) ? json_string_value(value) : ""; }

static int read_position(const json_t *value, const Place *p, GenevalClause *out) {
    const json_t *target = json_array_get(value, 1);
    out->relation = find(geneval_relation_name, GENEVAL_RELATIONS, text_of(json_array_get(value, 0)));
    if (json_array_size(value) != 2 || out->relation < 0)
        return bad(p, "a position that is not [\"left of\"|\"right of\"|\"above\"|\"below\", clause]", "");
    out->target = json_is_integer(target) ? (int)json_integer_value(target) : -1;
    if (out->target < 0 || out->target >= p->index) return bad(p, "a position whose clause is not an earlier one", "");
    return 0;
}

static int read_key(const char *key, const json_t *value, bool include, const Place *p, GenevalClause *out) {
    if (strcmp(key, "class") == 0) {
        out->class = geneval_class(text_of(value));
        return out->class < 0 ? bad(p, "the unknown class", text_of(value)) : 0;
    }
    if (strcmp(key, "count") == 0) {
        out->count = json_is_integer(value) ? (int)json_integer_value(value) : 0;
        return out->count < 1 || out->count > 1000 ? bad(p, "a count that is no number of 1 to 1000", "") : 0;
    }
    if (include && strcmp(key, "color") == 0) {
        out->color = geneval_color(text_of(value));
        return out->color < 0 ? bad(p, "the unknown color", text_of(value)) : 0;
    }
    if (include && strcmp(key, "position") == 0) return read_position(value, p, out);
    return bad(p, "the unknown key", key);
}

static int read_clause(const json_t *object, bool include, const Place *p, GenevalClause *out) {
    const char *key;
    json_t *value;
    *out = (GenevalClause){.class = -1, .color = -1, .relation = -1, .target = -1};
    if (!json_is_object(object)) return bad(p, "no object", "");
    json_object_foreach((json_t *)object, key, value) TRY(read_key(key, value, include, p, out));
    if (out->class < 0) return bad(p, "no class", "");
    return out->count < 1 ? bad(p, "no count", "") : 0;
}

static int read_list(const json_t *root, const char *key, GenevalClause *out, int *n, Error *err) {
    const json_t *list = json_object_get(root, key);
    const size_t size = json_array_size(list);
    *n = 0;
    if (list && !json_is_array(list)) return fail(err, DRPO_E_INPUT, "GenEval metadata: \"%s\" is not a list", key);
    if (size > GENEVAL_MAX_CLAUSES)
        return fail(err, DRPO_E_INPUT, "GenEval metadata: \"%s\" has %zu clauses, at most %d are possible", key, size,
                    GENEVAL_MAX_CLAUSES);
    for (size_t i = 0; i < size; i++) {
        const Place place = {key, (int)i, err};
        TRY(read_clause(json_array_get(list, i), strcmp(key, "include") == 0, &place, &out[i]));
    }
    *n = (int)size;
    return 0;
}

static int read_task(const json_t *root, GenevalTask *out, Error *err) {
    const char *tag = text_of(json_object_get(root, "tag"));
    *out = (GenevalTask){0};
    if (!*tag) return fail(err, DRPO_E_INPUT, "GenEval metadata: there is no \"tag\"");
    snprintf(out->tag, sizeof out->tag, "%s", tag);
    TRY(read_list(root, "include", out->include, &out->includes, err));
    TRY(read_list(root, "exclude", out->exclude, &out->excludes, err));
    if (out->includes + out->excludes == 0)
        return fail(err, DRPO_E_INPUT, "GenEval metadata: there is neither \"include\" nor \"exclude\"");
    return 0;
}

int geneval_task_parse(const char *metadata, GenevalTask *out, Error *err) {
    json_t *root = NULL;
    if (!metadata) return fail(err, DRPO_E_INPUT, "GenEval metadata: there is none; use a .jsonl prompt file");
    TRY(json_load_text("GenEval metadata", metadata, strlen(metadata), &root, err));
    const int code = read_task(root, out, err);
    json_decref(root);
    return code;
}
