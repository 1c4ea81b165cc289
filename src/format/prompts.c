/* Prompt files, as text lines or as JSON lines. */
#include "format/prompts.h"

#include <jansson.h>
#include <string.h>

#include "base/file.h"
#include "format/utf8.h"

static const size_t PROMPT_FILE_LIMIT = (size_t)1 << 30;

static bool is_jsonl(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot && (strcmp(dot, ".jsonl") == 0 || strcmp(dot, ".json") == 0);
}

/* Drops white space at both ends, in place. */
static char *strip(char *text, size_t *length) {
    static const char spaces[] = " \t\r\n\v\f";
    while (*length > 0 && strchr(spaces, text[*length - 1]) && text[*length - 1]) text[--*length] = 0;
    size_t lead = strspn(text, spaces);
    *length -= lead;
    return text + lead;
}

static int read_json(const char *path, int line, char *text, size_t length, Arena *a, Prompt *out, Error *err) {
    json_error_t where;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (!value)
        return fail(err, DRPO_E_INPUT, "%s:%d: column %d: not valid JSON: %s", path, line, where.column, where.text);
    const json_t *prompt = json_object_get(value, "prompt"), *tag = json_object_get(value, "tag");
    int code = 0;
    if (!json_is_string(prompt))
        code = fail(err, DRPO_E_INPUT, "%s:%d: no text under the key \"prompt\"", path, line);
    else if (tag && !json_is_string(tag) && !json_is_null(tag))
        code = fail(err, DRPO_E_INPUT, "%s:%d: the key \"tag\" must be a text", path, line);
    else {
        out->text = arena_strdup(a, json_string_value(prompt));
        out->tag = json_is_string(tag) ? arena_strdup(a, json_string_value(tag)) : NULL;
        out->metadata = text;
    }
    json_decref(value);
    return code;
}

static int count_lines(const char *text, size_t size) {
    int lines = 1;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    return lines;
}

static int check_text(const char *path, const char *text, size_t size, Error *err) {
    size_t valid = utf8_valid_prefix(text, size);
    if (valid < size)
        return fail(err, DRPO_E_INPUT, "%s:%d: not UTF-8 text; save the file as UTF-8", path, count_lines(text, valid));
    const char *zero = memchr(text, 0, size);
    if (zero)
        return fail(err, DRPO_E_INPUT, "%s:%d: holds a zero character", path, count_lines(text, (size_t)(zero - text)));
    return 0;
}

static int read_lines(const char *path, char *text, size_t size, Arena *a, PromptList *out, Error *err) {
    bool json = is_jsonl(path);
    int line = 1;
    for (size_t begin = 0; begin < size; line++) {
        char *newline = memchr(text + begin, '\n', size - begin);
        size_t end = newline ? (size_t)(newline - text) : size;
        text[end] = 0;
        size_t length = end - begin;
        char *content = strip(text + begin, &length);
        begin = end + 1;
        if (length == 0) continue;
        Prompt *p = &out->items[out->count++];
        if (json)
            TRY(read_json(path, line, content, length, a, p, err));
        else
            p->text = content;
    }
    if (arena_failed(a)) return fail(err, DRPO_E_MEMORY, "%s: not enough memory for its prompts", path);
    return out->count ? 0 : fail(err, DRPO_E_INPUT, "%s: holds no prompt", path);
}

int prompts_read(const char *path, Arena *a, PromptList *out, Error *err) {
    *out = (PromptList){0};
    char *text = NULL;
    size_t size = 0;
    TRY(file_read_text(path, PROMPT_FILE_LIMIT, a, &text, &size, err));
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, size -= 3; /* byte order mark */
    TRY(check_text(path, text, size, err));
    out->items = arena_alloc(a, (size_t)count_lines(text, size) * sizeof *out->items);
    if (!out->items) return fail(err, DRPO_E_MEMORY, "%s: not enough memory for its prompts", path);
    return read_lines(path, text, size, a, out, err);
}
