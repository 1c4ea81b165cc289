/* Advice: which command gets a model that is missing or incomplete. See advice.h. */
#include "model/advice.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"

enum { LONGEST_ID = 200, LONGEST_PATH = 1024, LEVELS = 3 };

static const char SD[] = "stabilityai/sd-turbo", SDXL[] = "stabilityai/sdxl-turbo";

/* The published repositories hold the model a second time as single files, which nobody needs beside the folder. */
static const char *leave_out(const char *repository) {
    return strcmp(repository, SD) == 0 || strcmp(repository, SDXL) == 0 ? " --exclude \"sd_*.safetensors\"" : "";
}

const char *repository_advice(const char *repository, char text[ADVICE_LENGTH]) {
    snprintf(text, ADVICE_LENGTH, "hf download %.*s%s", LONGEST_ID, repository, leave_out(repository));
    return text;
}

/* ".../models--stabilityai--sd-turbo/..." -> "stabilityai/sd-turbo" */
static bool cached_repository(const char *path, char id[LONGEST_ID]) {
    const char *start = strstr(path, "models--");
    if (!start) return false;
    start += strlen("models--");
    size_t n = strcspn(start, "/");
    const char *dashes = strstr(start, "--");
    if (n >= LONGEST_ID || !dashes || dashes >= start + n) return false;
    snprintf(id, LONGEST_ID, "%.*s/%.*s", (int)(dashes - start), start, (int)(start + n - dashes - 2), dashes + 2);
    return true;
}

/* Shortens `path` to the nearest folder with a model_index.json; false: none near. *sdxl: what that says. */
static bool find_index(char path[LONGEST_PATH], bool *sdxl) {
    for (int level = 0; level < LEVELS; level++) {
        char index[LONGEST_PATH + 32];
        snprintf(index, sizeof index, "%s/model_index.json", path);
        json_t *root = NULL;
        if (file_exists(index) && json_load_path(index, &root, NULL) == 0) {
            const char *name = json_string_value(json_object_get(root, "_class_name"));
            *sdxl = name && strncmp(name, "StableDiffusionXL", strlen("StableDiffusionXL")) == 0;
            json_decref(root);
            return true;
        }
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) return false;
        *slash = 0;
    }
    return false;
}

const char *model_advice(const char *path, char text[ADVICE_LENGTH]) {
    char id[LONGEST_ID], folder[LONGEST_PATH];
    if (cached_repository(path, id)) return repository_advice(id, text);
    bool sdxl = false;
    snprintf(folder, sizeof folder, "%s", path);
    bool known = strlen(path) < sizeof folder && find_index(folder, &sdxl);
    const char *repository = sdxl ? SDXL : SD;
    repository_advice(repository, text);
    size_t n = strlen(text), room = ADVICE_LENGTH - n;
    if (known && strlen(folder) + 16 < room) snprintf(text + n, room, " --local-dir %s", folder);
    return text;
}

bool advice_is_pointer(const char *path) {
    static const char start[] = "version https://git-lfs";
    char bytes[sizeof start] = "";
    FILE *f = fopen(path, "rbe");
    if (!f) return false;
    size_t n = fread(bytes, 1, sizeof start - 1, f);
    fclose(f);
    return n == sizeof start - 1 && memcmp(bytes, start, n) == 0;
}
