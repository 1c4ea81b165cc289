/* GenEval folder: pictures and verdicts on disk, as the benchmark lays them out, so that its own tools read them and a
 * run that was stopped goes on.
 *
 *   NNNNN/metadata.jsonl       the prompt's line          results.jsonl   one row per picture
 *         samples/NNNN.png     its pictures               drawn.json      what they were made with */
#ifndef DRPO_EVAL_GENEVAL_FOLDER_H
#define DRPO_EVAL_GENEVAL_FOLDER_H

#include <jansson.h>

#include "base/arena.h"
#include "format/jsonl.h"
#include "format/prompts.h"

typedef struct GenevalFolder {
    const char *path;
    Arena *arena;
    JsonlWriter results;
    int pictures;    /* per prompt */
    size_t prompts;  /* of the whole file */
    int8_t *verdict; /* [prompts,pictures]: 1 correct, 0 wrong, -1 not judged yet */
} GenevalFolder;

/* `made`: how the pictures are made; a folder that holds others is refused. `judge`: who decides, "" nobody. Reads the
 * verdicts that are there. The arena outlives the folder. */
int geneval_folder_open(const char *path, const json_t *made, const char *judge, size_t prompts, int pictures, Arena *a,
                        GenevalFolder *out, Error *err);
void geneval_folder_close(GenevalFolder *f);
/* Path of a picture in the arena; NULL when out of memory. */
char *geneval_folder_picture(const GenevalFolder *f, size_t prompt, int picture);
/* Folder, metadata and samples/ of a prompt. */
int geneval_folder_prompt(const GenevalFolder *f, size_t prompt, const Prompt *text, Error *err);
int8_t *geneval_folder_verdict(const GenevalFolder *f, size_t prompt, int picture);
/* Appends a row; details NULL: none. */
int geneval_folder_row(GenevalFolder *f, size_t prompt, int picture, const Prompt *text, bool correct,
                       const char *reason, const char *details, Error *err);

#endif
