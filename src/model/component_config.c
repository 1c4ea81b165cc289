/* Checks of config.json keys, shared by the networks' config readers. */
#include "model/component_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_LENGTH = 128, MAX_LIST = 64 };

int document_load(const char *document, json_t **out, const char **where, Error *err) {
    bool text = document[0] == '{';
    *where = text ? "built-in configuration" : document;
    return text ? json_load_text(*where, document, strlen(document), out, err) : json_load_path(document, out, err);
}

int component_read(const char *document, ComponentReader reader, void *config, Error *err) {
    Error local = {0};
    const char *where;
    json_t *root;
    TRY(document_load(document, &root, &where, err));
    JsonReader r = {root, where, err ? err : &local};
    int code = reader(&r, config);
    json_decref(root);
    return code;
}

int component_class(const JsonReader *r, const char *wanted) {
    const json_t *class_name = json_object_get(r->object, "_class_name");
    if (!class_name) class_name = json_array_get(json_object_get(r->object, "architectures"), 0);
    const char *found = json_string_value(class_name);
    if (!found || strcmp(found, wanted) == 0) return 0;
    return fail(r->err, DRPO_E_INPUT, "%s: describes %.64s; %s belongs here", r->where, found, wanted);
}

static const ConfigRule *find_rule(const ConfigRule *rules, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(rules[i].key, key) == 0) return &rules[i];
    return NULL;
}

/* 1 and 1.0 mean the same to the program that wrote the file. */
static bool values_equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static bool is_accepted(const json_t *value, const char *accepted) {
    while (*accepted) {
        size_t length = strcspn(accepted, "|");
        json_t *candidate = json_loadb(accepted, length, JSON_DECODE_ANY, NULL);
        bool same = candidate && values_equal(value, candidate);
        json_decref(candidate);
        if (same) return true;
        accepted += length + (accepted[length] == '|');
    }
    return false;
}

static int refuse(const JsonReader *r, const char *key, const json_t *value, const char *accepted) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    int code = fail(r->err, DRPO_E_INPUT, "%s: %s = %.*s is not supported (supported: %s)", r->where, key, VALUE_LENGTH,
                    text ? text : "?", accepted);
    free(text);
    return code;
}

int component_check(const JsonReader *r, const ConfigRule *rules, size_t n) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)r->object, key, value) {
        if (key[0] == '_') continue;
        const ConfigRule *rule = find_rule(rules, n, key);
        if (!rule)
            return fail(r->err, DRPO_E_INPUT, "%s: key '%s' is unknown, so the network may differ", r->where, key);
        if (rule->accepted && !is_accepted(value, rule->accepted)) return refuse(r, key, value, rule->accepted);
    }
    return json_finish(r);
}

int component_act(const JsonReader *r, const char *key, Act fallback, Act *out) {
    static const struct {
        const char *name;
        Act act;
    } known[] = {{"silu", ACT_SILU},
                 {"swish", ACT_SILU},
                 {"gelu", ACT_GELU},
                 {"relu", ACT_RELU},
                 {"quick_gelu", ACT_QUICK_GELU},
                 {"gelu_pytorch_tanh", ACT_GELU_TANH}};
    const char *name = json_get_string(r, key, NULL);
    TRY(json_finish(r));
    *out = fallback;
    if (!name) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            *out = known[i].act;
            return 0;
        }
    return fail(r->err, DRPO_E_INPUT, "%s: %s = '%s' is not supported (supported: silu, gelu, relu, quick_gelu)",
                r->where, key, name);
}

int component_ints(const JsonReader *r, const char *key, int64_t fallback, int low, int high, int *out, int n) {
    int64_t value[MAX_LIST];
    bool is_list = json_is_array(json_object_get(r->object, key));
    size_t count = json_get_ints(r, key, value, MAX_LIST);
    TRY(json_finish(r));
    if (is_list && count != (size_t)n)
        return fail(r->err, DRPO_E_INPUT, "%s: %s lists %zu values, there are %d blocks", r->where, key, count, n);
    for (int i = 0; i < n; i++) {
        int64_t v = count == 0 ? fallback : value[is_list ? i : 0];
        if (v < low || v > high)
            return fail(r->err, DRPO_E_INPUT, "%s: %s has the value %lld, outside %d..%d", r->where, key, (long long)v,
                        low, high);
        out[i] = (int)v;
    }
    return 0;
}

int component_int(const JsonReader *r, const char *key, int64_t fallback, int low, int high, int *out) {
    int64_t v = json_get_int(r, key, fallback);
    TRY(json_finish(r));
    if (v < low || v > high)
        return fail(r->err, DRPO_E_INPUT, "%s: %s has the value %lld, outside %d..%d", r->where, key, (long long)v, low,
                    high);
    *out = (int)v;
    return 0;
}

int component_choices(const JsonReader *r, const char *key, const char *yes, const char *no, bool *out, int n) {
    const char *value[MAX_LIST];
    size_t count = json_get_strings(r, key, value, MAX_LIST);
    TRY(json_finish(r));
    if (count != (size_t)n)
        return fail(r->err, DRPO_E_INPUT, "%s: %s lists %zu values, block_out_channels %d", r->where, key, count, n);
    for (int i = 0; i < n; i++) {
        out[i] = strcmp(value[i], yes) == 0;
        if (!out[i] && (!no || strcmp(value[i], no) != 0))
            return fail(r->err, DRPO_E_INPUT, "%s: %s has '%s'; supported: %s%s%s", r->where, key, value[i], yes,
                        no ? ", " : "", no ? no : "");
    }
    return 0;
}
