/* The benchmark's folder. See geneval_folder.h. */
#include "eval/geneval_folder.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"

static int no_memory(Error *err) { return fail(err, DRPO_E_MEMORY, "out of memory for GenEval's folder"); }

char *geneval_folder_picture(const GenevalFolder *f, size_t prompt, int picture) {
    return arena_printf(f->arena, "%s/%05zu/samples/%04d.png", f->path, prompt, picture);
}

int8_t *geneval_folder_verdict(const GenevalFolder *f, size_t prompt, int picture) {
    return &f->verdict[prompt * (size_t)f->pictures + (size_t)picture];
}

/* ---- what the folder holds already ---- */

/* The first key in which two objects differ; NULL: none. */
static const char *difference(const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value) if (!json_equal(value, json_object_get(b, key))) return key;
    return NULL;
}

static int check_made(const char *path, const json_t *made, const char *judge, Error *err) {
    json_t *before = NULL;
    TRY(json_load_path(path, &before, err));
    const char *key = difference(made, before), *judged = json_string_value(json_object_get(before, "judge"));
    int code = 0;
    if (key)
        code = fail(err, DRPO_E_USAGE, "%s: the folder holds pictures made with another %s; choose another --out", path,
                    key);
    else if (*judge && judged && *judged && strcmp(judge, judged) != 0)
        code = fail(err, DRPO_E_USAGE,
                    "%s: its results.jsonl was judged by '%.200s'; choose another --out, or remove results.jsonl and "
                    "drawn.json to judge the pictures anew",
                    path, judged);
    json_decref(before);
    return code;
}

static int write_made(const char *path, const json_t *made, const char *judge, Error *err) {
    json_t *both = json_copy((json_t *)made);
    const int bad = !both || json_object_set_new(both, "judge", json_string(judge)) < 0;
    const int code = bad ? no_memory(err) : json_save_path(path, both, err);
    json_decref(both);
    return code;
}

/* ".../00012/samples/0003.png" */
static bool picture_of(const char *file, size_t *prompt, int *picture) {
    const char *end = file ? strstr(file, "/samples/") : NULL;
    if (!end || end - file < 5) return false;
    for (const char *next; (next = strstr(end + 1, "/samples/")); end = next) {
    }
    return sscanf(end - 5, "%zu/samples/%d.png", prompt, picture) == 2;
}

static int read_row(void *user, const json_t *row, const char *text, int line, Error *err) {
    (void)text, (void)line;
    const GenevalFolder *f = user;
    const char *file = json_string_value(json_object_get(row, "filename"));
    size_t prompt;
    int picture;
    if (!picture_of(file, &prompt, &picture) || prompt >= f->prompts)
        return fail(err, DRPO_E_INPUT, "the row's \"filename\" is none of this folder's pictures");
    if (picture >= 0 && picture < f->pictures)
        *geneval_folder_verdict(f, prompt, picture) = json_is_true(json_object_get(row, "correct"));
    return 0;
}

static int open_files(GenevalFolder *f, const json_t *made, const char *judge, Error *err) {
    char *drawn = path_join(f->arena, f->path, "drawn.json"), *results = path_join(f->arena, f->path, "results.jsonl");
    if (!drawn || !results) return no_memory(err);
    if (file_exists(drawn)) TRY(check_made(drawn, made, judge, err));
    TRY(dir_make(f->path, err));
    if (*judge || !file_exists(drawn)) TRY(write_made(drawn, made, judge, err));
    if (!*judge) return 0;
    TRY(jsonl_open(&f->results, results, -1, err)); /* also mends a last line that was cut short */
    return jsonl_read(results, read_row, f, err);
}

int geneval_folder_open(const char *path, const json_t *made, const char *judge, size_t prompts, int pictures, Arena *a,
                        GenevalFolder *out, Error *err) {
    *out = (GenevalFolder){.path = path, .arena = a, .results = {.fd = -1}, .pictures = pictures, .prompts = prompts};
    out->verdict = arena_alloc(a, prompts * (size_t)pictures);
    if (!out->verdict) return no_memory(err);
    memset(out->verdict, -1, prompts * (size_t)pictures);
    return open_files(out, made, judge, err);
}

void geneval_folder_close(GenevalFolder *f) { jsonl_close(&f->results); }

/* ---- what it gets ---- */

int geneval_folder_prompt(const GenevalFolder *f, size_t prompt, const Prompt *text, Error *err) {
    char *folder = arena_printf(f->arena, "%s/%05zu/samples", f->path, prompt);
    char *metadata = arena_printf(f->arena, "%s/%05zu/metadata.jsonl", f->path, prompt);
    if (!folder || !metadata) return no_memory(err);
    TRY(dir_make(folder, err));
    if (file_exists(metadata)) return 0;
    if (text->metadata) return file_write_atomic(metadata, text->metadata, strlen(text->metadata), err);
    json_t *line = json_pack("{s:s}", "prompt", text->text);
    const int code = line ? json_save_path(metadata, line, err) : no_memory(err);
    json_decref(line);
    return code;
}

int geneval_folder_row(GenevalFolder *f, size_t prompt, int picture, const Prompt *text, bool correct,
                       const char *reason, const char *details, Error *err) {
    const char *file = geneval_folder_picture(f, prompt, picture);
    json_t *row = json_pack("{s:s?, s:s?, s:s, s:b, s:s, s:s, s:s}", "filename", file, "tag", text->tag, "prompt",
                            text->text, "correct", correct, "reason", reason, "metadata",
                            text->metadata ? text->metadata : "{}", "details", details ? details : "{}");
    const int code = file && row ? jsonl_write(&f->results, row, err) : no_memory(err);
    json_decref(row);
    if (code == 0) *geneval_folder_verdict(f, prompt, picture) = correct;
    return code;
}
