/* Prompt files: .txt with one prompt a line, or .jsonl with a "prompt" key and anything else as metadata. */
#ifndef DRPO_FORMAT_PROMPTS_H
#define DRPO_FORMAT_PROMPTS_H

#include "base/arena.h"
#include "base/error.h"

typedef struct Prompt {
    const char *text;
    const char *tag;      /* the key "tag" of a .jsonl line, else NULL */
    const char *metadata; /* the whole .jsonl line, NULL in a .txt */
} Prompt;

typedef struct PromptList {
    Prompt *items;
    size_t count;
} PromptList;

/* Everything lives in the arena. Blank lines are skipped, spaces around a .txt prompt dropped. No prompt at all, text
 * that is not UTF-8 and a line without "prompt" are errors with the line's number. */
int prompts_read(const char *path, Arena *a, PromptList *out, Error *err);

#endif
