/* Card: copies two sections of final/README.md into the page. */
#include "report/card.h"

#include <string.h>

#include "base/file.h"
#include "report/html.h"

enum { CARD_LIMIT = 1 << 22 };

/* Writes what stands between the line that starts with `head` and the next heading. */
static void copy_section(FILE *out, char *text, const char *head, const char *title) {
    char *at = strstr(text, head), *line;
    if (!at) return;
    fprintf(out, "<h2>%s</h2>\n<pre>", title);
    at += strlen(head);
    at += strcspn(at, "\n");
    char *rest = at, *end = strstr(at, "\n## ");
    char saved = 0;
    if (end) saved = *end, *end = 0;
    while ((line = strsep(&rest, "\n"))) {
        bool markup = strncmp(line, "```", 3) == 0 || strncmp(line, "|---", 4) == 0 || strncmp(line, "| what", 6) == 0;
        if (!markup && *line) {
            html_text(out, line);
            fputc('\n', out);
        }
    }
    if (end) *end = saved;
    fprintf(out, "</pre>\n");
}

int card_write(FILE *out, const char *path, Error *err) {
    static const char *const sections[][2] = {{"\n## Command", "Command"}, {"\n## Hashes", "Hashes (SHA-256)"}};
    if (!file_exists(path)) return 0;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        Arena *arena = arena_new(); /* a fresh copy: cutting into lines destroys it */
        char *text;
        int code = arena ? file_read_text(path, CARD_LIMIT, arena, &text, NULL, err)
                         : fail(err, DRPO_E_MEMORY, "report: out of memory");
        if (code >= 0) copy_section(out, text, sections[i][0], sections[i][1]);
        arena_free(arena);
        TRY(code);
    }
    return 0;
}
