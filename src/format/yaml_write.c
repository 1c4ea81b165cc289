/* Writing flat YAML through libyaml's emitter, which quotes whatever would not come back as the same text. */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "format/yaml.h"

typedef struct Buffer {
    char *bytes;
    size_t size, room;
} Buffer;

static int append(void *user, unsigned char *bytes, size_t size) {
    Buffer *b = user;
    if (b->room - b->size < size) {
        size_t room = (b->size + size) * 2;
        char *more = realloc(b->bytes, room);
        if (!more) return 0; /* libyaml's sign for failure */
        b->bytes = more;
        b->room = room;
    }
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
    return 1;
}

static int emit_text(yaml_emitter_t *emitter, const char *text) {
    /* Plain, these would be read as "nothing". */
    bool must_quote = text[0] == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
    yaml_scalar_style_t style = must_quote ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE;
    yaml_event_t event;
    return yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
                                        style) &&
           yaml_emitter_emit(emitter, &event);
}

static int emit_item(yaml_emitter_t *emitter, const YamlItem *item) {
    yaml_event_t event;
    if (!emit_text(emitter, item->key)) return 0;
    if (!item->list) return emit_text(emitter, item->values[0]);
    if (!yaml_sequence_start_event_initialize(&event, NULL, NULL, 1,
                                              item->count ? YAML_BLOCK_SEQUENCE_STYLE : YAML_FLOW_SEQUENCE_STYLE) ||
        !yaml_emitter_emit(emitter, &event))
        return 0;
    for (size_t i = 0; i < item->count; i++)
        if (!emit_text(emitter, item->values[i])) return 0;
    return yaml_sequence_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event);
}

static int emit_all(yaml_emitter_t *emitter, const YamlItem *items, size_t n) {
    yaml_event_t event;
    if (!yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) || !yaml_emitter_emit(emitter, &event) ||
        !yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) || !yaml_emitter_emit(emitter, &event) ||
        !yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) ||
        !yaml_emitter_emit(emitter, &event))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!emit_item(emitter, &items[i])) return 0;
    return yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event) &&
           yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(emitter, &event) &&
           yaml_stream_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event);
}

static int append_comment(Buffer *b, const char *comment) {
    while (*comment) {
        size_t length = strcspn(comment, "\n");
        if (!append(b, (unsigned char *)"# ", 2) || !append(b, (unsigned char *)comment, length) ||
            !append(b, (unsigned char *)"\n", 1))
            return 0;
        comment += length + (comment[length] == '\n');
    }
    return 1;
}

int yaml_write(const char *path, const char *comment, const YamlItem *items, size_t n, Error *err) {
    yaml_emitter_t emitter;
    if (!yaml_emitter_initialize(&emitter)) return fail(err, DRPO_E_MEMORY, "%s: not enough memory to write it", path);
    Buffer buffer = {0};
    yaml_emitter_set_output(&emitter, append, &buffer);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1); /* never fold */
    int code = 0;
    if ((comment && !append_comment(&buffer, comment)) || !emit_all(&emitter, items, n))
        code = fail(err, DRPO_E_INPUT, "%s: cannot be written: %s", path,
                    emitter.problem ? emitter.problem : "not enough memory, or text that is not UTF-8");
    if (code == 0) code = file_write_atomic(path, buffer.bytes, buffer.size, err);
    yaml_emitter_delete(&emitter);
    free(buffer.bytes);
    return code;
}
