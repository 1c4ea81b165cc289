/* Config: the resolved options as YAML, their hash, and the command that gives them. See config.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/yaml.h"
#include "train/config.h"
#include "train/config_value.h"

bool config_is_method(OptionId id) {
    static const OptionId other[] = {
        OPT_RUN,     OPT_CONFIG,     OPT_RESUME,         OPT_OVERWRITE,   OPT_CHECKPOINT_EVERY, OPT_KEEP,
        OPT_DRY_RUN, OPT_EVAL_EVERY, OPT_EVAL_PROMPTS,   OPT_EVAL_LIMIT,  OPT_EVAL_SEEDS,       OPT_EVAL_SEED,
        OPT_STEPS,   OPT_THREADS,    OPT_DUMP_GRADIENTS, OPT_EVAL_REWARD, OPT_ON_REWARD_ERROR,  OPT_PROMPTS_AT_ONCE,
        OPT_MEMORY,  OPT_TEXT_CACHE, OPT_STOP_WHEN};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (other[i] == id) return false;
    return option_info(id)->verbs & 1u << DRPO_TRAIN;
}

/* What it is when nobody gives it. --dtype f32 is what auto means wherever it is not written as bf16. */
static bool is_initial(const Config *c, const Config *initial, OptionId id) {
    const char *text = config_text(c, id);
    return strcmp(text, config_text(initial, id)) == 0 || (id == OPT_DTYPE && strcmp(text, "f32") == 0);
}

/* Where a run was told to go and how it was started is no option of the run itself. */
static bool is_written(const Config *c, OptionId id) {
    return config_has(c, id) && id != OPT_CONFIG && id != OPT_RESUME && id != OPT_OVERWRITE && id != OPT_RUN &&
           id != OPT_DRY_RUN;
}

int config_write(const Config *c, const char *path, Error *err) {
    YamlItem item[OPT_COUNT];
    const char *text[OPT_COUNT];
    size_t n = 0;
    Arena *a = arena_new();
    if (!a) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    for (int id = 0; id < OPT_COUNT; id++) {
        if (!is_written(c, (OptionId)id)) continue;
        const OptionInfo *info = option_info((OptionId)id);
        int count = config_count(c, (OptionId)id);
        bool list = value_is_list(info->type);
        const char **values = arena_alloc(a, sizeof *values * (size_t)(count + 1));
        if (!values) break;
        for (int i = 0; i < count; i++) values[i] = config_item(c, (OptionId)id, i);
        text[n] = config_text(c, (OptionId)id);
        item[n] = (YamlItem){info->key, list ? values : &text[n], list ? (size_t)count : 1, list};
        n++;
    }
    int code = arena_failed(a) ? fail(err, DRPO_E_MEMORY, "%s: out of memory", path)
                               : yaml_write(path, "Resolved options of this run; drpo reads them back with --config.",
                                            item, n, err);
    arena_free(a);
    return code;
}

void config_hash(const Config *c, char hex[65]) {
    char *text = NULL;
    size_t size = 0;
    Config *initial = config_new(DRPO_TRAIN);
    FILE *f = initial ? open_memstream(&text, &size) : NULL;
    hex[0] = 0;
    if (f) {
        for (int id = 0; id < OPT_COUNT; id++)
            if (config_is_method((OptionId)id) && !is_initial(c, initial, (OptionId)id))
                fprintf(f, "%s=%s\n", option_info((OptionId)id)->key, config_text(c, (OptionId)id));
        fclose(f);
    }
    config_free(initial);
    if (text) sha256_hex(text, size, hex);
    free(text);
}

/* Quotes for a POSIX shell where needed. */
static void print_shell(FILE *f, const char *text) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
    if (text[0] && strspn(text, plain) == strlen(text)) {
        fputs(text, f);
        return;
    }
    fputc('\'', f);
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", f);
        else
            fputc(*text, f);
    }
    fputc('\'', f);
}

static void print_option(FILE *f, const Config *c, OptionId id) {
    const OptionInfo *info = option_info(id);
    bool each = info->type == OPTION_LIST || info->type == OPTION_FILES;
    if (info->type == OPTION_BOOL) {
        fprintf(f, config_bool(c, id) ? " --%s" : " --no-%s", info->key);
        return;
    }
    for (int i = 0; i < (each ? config_count(c, id) : 1); i++) {
        if (info->type == OPTION_FILES)
            fputc(' ', f);
        else
            fprintf(f, " --%s ", info->key);
        print_shell(f, each ? config_item(c, id, i) : config_text(c, id));
    }
}

char *config_command(const Config *c, Arena *a) {
    char *text = NULL, *copy = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "drpo %s", verb_name(config_verb(c)));
    for (int id = 0; id < OPT_COUNT; id++) {
        ConfigSource source = config_source(c, (OptionId)id);
        if (config_has(c, (OptionId)id) && source != SOURCE_DEFAULT && id != OPT_CONFIG && id != OPT_RESUME &&
            id != OPT_OVERWRITE)
            print_option(f, c, (OptionId)id);
    }
    if (fclose(f) == 0) copy = arena_strdup(a, text);
    free(text);
    return copy;
}
