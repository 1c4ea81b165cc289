/* Reading flat YAML: libyaml's events, of which only scalars and lists of scalars below one mapping are allowed. */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "format/utf8.h"
#include "format/yaml.h"

enum { YAML_FILE_LIMIT = 16 << 20 };

typedef struct Reader {
    yaml_parser_t parser;
    const char *name;
    YamlEntry entry;
    void *user;
    Error *err;
    char **seen; /* keys so far, to find doubles */
    size_t n_seen;
} Reader;

static int next_event(Reader *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event)) return 0;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return fail(r->err, DRPO_E_MEMORY, "%s: not enough memory to read it", r->name);
    return fail(r->err, DRPO_E_INPUT, "%s:%zu: not valid YAML: %s", r->name, p->problem_mark.line + 1,
                p->problem ? p->problem : "unreadable text");
}

static int line_of(const yaml_event_t *event) { return (int)event->start_mark.line + 1; }

static const char *scalar_text(const yaml_event_t *event) {
    const char *text = (const char *)event->data.scalar.value;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return plain && (strcmp(text, "~") == 0 || strcmp(text, "null") == 0) ? "" : text;
}

static int hand_out(Reader *r, const char *key, const yaml_event_t *event) {
    if (event->data.scalar.anchor)
        return fail(r->err, DRPO_E_INPUT, "%s:%d: anchors are not supported", r->name, line_of(event));
    if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
        return fail(r->err, DRPO_E_INPUT, "%s:%d: the value of '%s' holds a zero character", r->name, line_of(event),
                    key);
    int code = r->entry(r->user, key, scalar_text(event), line_of(event), r->err);
    return code < 0 ? fail_in(r->err, "%s:%d", r->name, line_of(event)) : 0;
}

static int unsupported(Reader *r, const char *key, const yaml_event_t *event) {
    const char *what = event->type == YAML_ALIAS_EVENT           ? "an alias"
                       : event->type == YAML_MAPPING_START_EVENT ? "a mapping"
                                                                 : "a list";
    return fail(r->err, DRPO_E_INPUT, "%s:%d: '%s' holds %s; only a value or a list of values is allowed", r->name,
                line_of(event), key, what);
}

static int read_list(Reader *r, const char *key) {
    for (;;) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        yaml_event_type_t type = event.type;
        int code = 0;
        if (type == YAML_SCALAR_EVENT)
            code = hand_out(r, key, &event);
        else if (type != YAML_SEQUENCE_END_EVENT)
            code = unsupported(r, key, &event);
        yaml_event_delete(&event);
        if (code < 0 || type == YAML_SEQUENCE_END_EVENT) return code;
    }
}

static int read_value(Reader *r, const char *key) {
    yaml_event_t event;
    TRY(next_event(r, &event));
    int code;
    if (event.type == YAML_SCALAR_EVENT)
        code = hand_out(r, key, &event);
    else if (event.type == YAML_SEQUENCE_START_EVENT && !event.data.sequence_start.anchor)
        code = read_list(r, key);
    else
        code = unsupported(r, key, &event);
    yaml_event_delete(&event);
    return code;
}

static int remember_key(Reader *r, const char *key, int line) {
    for (size_t i = 0; i < r->n_seen; i++)
        if (strcmp(r->seen[i], key) == 0)
            return fail(r->err, DRPO_E_INPUT, "%s:%d: '%s' is set a second time", r->name, line, key);
    char **more = realloc(r->seen, (r->n_seen + 1) * sizeof *more);
    if (more) r->seen = more;
    char *copy = more ? strdup(key) : NULL;
    if (!copy) return fail(r->err, DRPO_E_MEMORY, "%s: not enough memory to read it", r->name);
    r->seen[r->n_seen++] = copy;
    return 0;
}

static int read_entries(Reader *r) {
    for (;;) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        yaml_event_type_t type = event.type;
        int code = 0, line = line_of(&event);
        if (type == YAML_SCALAR_EVENT) {
            /* seen[] keeps the key alive while its value is read */
            code = remember_key(r, (const char *)event.data.scalar.value, line);
            if (code == 0) code = read_value(r, r->seen[r->n_seen - 1]);
        } else if (type != YAML_MAPPING_END_EVENT) {
            code = fail(r->err, DRPO_E_INPUT, "%s:%d: a key must be a plain word", r->name, line);
        }
        yaml_event_delete(&event);
        if (code < 0 || type == YAML_MAPPING_END_EVENT) return code;
    }
}

/* The frame around the entries: one document that is one mapping, or nothing at all. */
static int read_stream(Reader *r) {
    int documents = 0;
    for (;;) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        yaml_event_type_t type = event.type;
        int code = 0, line = line_of(&event);
        bool nothing = type == YAML_SCALAR_EVENT && event.data.scalar.length == 0;
        if (type == YAML_DOCUMENT_START_EVENT && ++documents > 1)
            code = fail(r->err, DRPO_E_INPUT, "%s:%d: a second document begins; one is allowed", r->name, line);
        else if (type == YAML_MAPPING_START_EVENT)
            code = read_entries(r);
        else if ((type == YAML_SCALAR_EVENT && !nothing) || type == YAML_SEQUENCE_START_EVENT ||
                 type == YAML_ALIAS_EVENT)
            code = fail(r->err, DRPO_E_INPUT, "%s:%d: 'key: value' lines are needed", r->name, line);
        yaml_event_delete(&event);
        if (code < 0 || type == YAML_STREAM_END_EVENT) return code;
    }
}

int yaml_read_text(const char *name, const char *text, size_t size, YamlEntry entry, void *user, Error *err) {
    size_t valid = utf8_valid_prefix(text, size);
    if (valid < size) {
        int line = 1;
        for (size_t i = 0; i < valid; i++) line += text[i] == '\n';
        return fail(err, DRPO_E_INPUT, "%s:%d: not UTF-8 text", name, line);
    }
    Reader r = {.name = name, .entry = entry, .user = user, .err = err};
    if (!yaml_parser_initialize(&r.parser)) return fail(err, DRPO_E_MEMORY, "%s: not enough memory to read it", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    int code = read_stream(&r);
    yaml_parser_delete(&r.parser);
    for (size_t i = 0; i < r.n_seen; i++) free(r.seen[i]);
    free(r.seen);
    return code;
}

int yaml_read(const char *path, YamlEntry entry, void *user, Error *err) {
    Arena *a = arena_new();
    if (!a) return fail(err, DRPO_E_MEMORY, "%s: not enough memory to read it", path);
    char *text = NULL;
    size_t size = 0;
    int code = file_read_text(path, YAML_FILE_LIMIT, a, &text, &size, err);
    if (code == 0) code = yaml_read_text(path, text, size, entry, user, err);
    arena_free(a);
    return code;
}
