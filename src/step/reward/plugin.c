/* plugin: a shared object with the three functions of include/drpo_reward.h, called in this process. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drpo_reward.h"
#include "step/reward/reward_internal.h"

typedef struct PluginState {
    void *library, *own; /* own: what its open function handed out */
    bool opened;
    __typeof__(drpo_reward_open) *open;
    __typeof__(drpo_reward_score) *score;
    __typeof__(drpo_reward_close) *close;
} PluginState;

/* Text of the plugin as one printable line. */
static void make_line(char *text, size_t size) {
    text[size - 1] = 0;
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
}

static int plugin_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    const PluginState *s = r->state;
    const drpo_reward_request request = {.prompt = prompt->text,
                                         .metadata = prompt->metadata,
                                         .rgb = pictures->rgb,
                                         .count = pictures->count,
                                         .height = pictures->height,
                                         .width = pictures->width};
    char text[400] = "";
    for (int k = 0; k < pictures->count; k++) scores[k] = __builtin_nanf(""); /* one that is forgotten is found out */
    const int code = s->score(s->own, &request, scores, text, sizeof text);
    make_line(text, sizeof text);
    if (code == 0) return 0;
    return fail(err, DRPO_E_REWARD, "reward %s: its score function returned %d%s%s", r->label, code, *text ? ": " : "",
                text);
}

static void plugin_destroy(Reward *r) {
    PluginState *s = r->state;
    if (s->opened) s->close(s->own);
    if (s->library) dlclose(s->library);
    free(s);
}

static int find_functions(PluginState *s, const char *path, Error *err) {
    const char *const names[] = {"drpo_reward_open", "drpo_reward_score", "drpo_reward_close"};
    void *found[3];
    for (int k = 0; k < 3; k++)
        if (!(found[k] = dlsym(s->library, names[k])))
            return fail(err, DRPO_E_INPUT, "reward plugin:%s: it has no function %s (include/drpo_reward.h)", path,
                        names[k]);
    memcpy(&s->open, &found[0], sizeof s->open); /* ISO C has no cast from data to function */
    memcpy(&s->score, &found[1], sizeof s->score);
    memcpy(&s->close, &found[2], sizeof s->close);
    return 0;
}

static int load(PluginState *s, const RewardSpec *spec, Error *err) {
    const char *path = spec->argument;
    char near[4096], text[400] = "";
    snprintf(near, sizeof near, "%s%s", strchr(path, '/') ? "" : "./", path); /* never the system's search path */
    s->library = dlopen(near, RTLD_NOW | RTLD_LOCAL);
    if (!s->library) return fail(err, DRPO_E_INPUT, "reward plugin: %s", dlerror());
    TRY(find_functions(s, path, err));
    char *own = reward_own_options(spec);
    if (!own) return fail(err, DRPO_E_MEMORY, "out of memory");
    const int code = s->open(DRPO_REWARD_ABI, own, &s->own, text, sizeof text);
    free(own);
    make_line(text, sizeof text);
    if (code != 0)
        return fail(err, DRPO_E_INPUT, "reward plugin:%s: its open function returned %d%s%s", path, code,
                    *text ? ": " : "", text);
    s->opened = true;
    return 0;
}

static int plugin_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    char name[64];
    const char *slash = strrchr(spec->argument, '/'), *file = slash ? slash + 1 : spec->argument;
    snprintf(name, sizeof name, "plugin_%.*s", (int)strcspn(file, "."), file);
    Reward *r = reward_new(spec, name);
    PluginState *s = calloc(1, sizeof *s);
    if (!r || !s) {
        free(r);
        free(s);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward plugin:%.200s", spec->argument);
    }
    r->state = s;
    r->score = plugin_score;
    r->destroy = plugin_destroy;
    const int code = load(s, spec, err);
    if (code == 0)
        *out = r;
    else
        reward_close(r);
    return code;
}

const RewardKind plugin_kind = {
    .name = "plugin",
    .argument = "PATH.so",
    .scores = "whatever the shared object says; options that drpo does not know are handed to it",
    .needs = "a shared object with the three functions of include/drpo_reward.h",
    .range = "any finite number",
    .licence = "the plugin's own",
    .weights = "the plugin's own",
    .passes_options = true,
    .open = plugin_open,
};
