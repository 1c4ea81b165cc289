/* Stop note: the last line of eval.jsonl -> why the run was stopped. See stop_note.h. */
#include "report/stop_note.h"

#include "base/file.h"
#include "format/jsonl.h"
#include "report/html.h"

static const char *text_of(const json_t *stop, const char *key) {
    const char *text = json_string_value(json_object_get(stop, key));
    return text ? text : "";
}

static int note_line(void *user, const json_t *value, const char *text, int line, Error *err) {
    (void)text, (void)line, (void)err;
    StopNote *n = user;
    const json_t *stop = json_object_get(value, "stop");
    *n = (StopNote){.step = (long)json_integer_value(json_object_get(value, "step")),
                    .kept = (long)json_integer_value(json_object_get(stop, "kept"))};
    snprintf(n->rules, sizeof n->rules, "%s", text_of(stop, "rules"));
    snprintf(n->why, sizeof n->why, "%s", text_of(stop, "why"));
    return 0;
}

int stop_note_read(const char *path, StopNote *out, Error *err) {
    *out = (StopNote){0};
    return file_exists(path) ? jsonl_read(path, note_line, out, err) : 0;
}

void stop_note_write(FILE *out, const StopNote *n) {
    if (!n->rules[0]) return;
    fprintf(out, "<div class=stop><b>Stopped at step %ld by <code>--stop-when ", n->step);
    html_text(out, n->rules);
    fprintf(out, "</code></b><br>At its evaluation: ");
    html_text(out, n->why);
    if (n->kept < 0)
        fprintf(out, ". No earlier evaluation could be kept: <code>final/</code> holds the last adapter.</div>\n");
    else
        fprintf(out,
                ". <code>final/</code> holds the adapter of <b>step %ld</b>, the evaluation with the highest reward "
                "among those at which every rule held.</div>\n",
                n->kept);
}
