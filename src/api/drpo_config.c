/* Public API: options of a verb. A thin coat over train/config.h that keeps the last error. See include/drpo.h. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

const char *drpo_error_text(int code) {
    static const struct {
        int code;
        const char *text;
    } map[] = {
#define ERROR_ROW(name, value, text) {value, text},
        DRPO_ERROR_MAP(ERROR_ROW)
#undef ERROR_ROW
    };
    if (code >= 0) return "no error";
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (map[i].code == code) return map[i].text;
    return "unknown error";
}

const char *drpo_version(void) { return DRPO_VERSION; }

drpo_config *drpo_config_new(drpo_verb verb) {
    if ((int)verb < 0 || verb >= DRPO_VERBS) return NULL;
    drpo_config *c = calloc(1, sizeof *c);
    if (c) c->config = config_new(verb);
    if (c && c->config) return c;
    free(c);
    return NULL;
}

void drpo_config_free(drpo_config *c) {
    if (!c) return;
    config_free(c->config);
    free(c);
}

int drpo_config_set(drpo_config *c, const char *key, const char *value) {
    if (!c) return DRPO_E_USAGE;
    error_clear(&c->error);
    if (!key || !value) return fail(&c->error, DRPO_E_USAGE, "a key or value is NULL");
    return config_set(c->config, key, value, SOURCE_FLAG, &c->error);
}

const char *drpo_config_get(const drpo_config *c, const char *key) {
    if (!c || !key) return NULL;
    OptionId id = config_find(config_verb(c->config), key);
    return id == OPT_COUNT ? NULL : config_text(c->config, id);
}

int drpo_config_parse(drpo_config *c, int argc, const char *const *argv) {
    if (!c) return DRPO_E_USAGE;
    error_clear(&c->error);
    return config_parse(c->config, argc, argv, &c->error);
}

const char *drpo_config_error(const drpo_config *c) { return c ? c->error.text : "out of memory"; }

char *drpo_config_help(drpo_verb verb, const char *program) { return config_help(verb, program ? program : "drpo"); }

char *drpo_config_reference(void) { return config_reference(); }

int drpo_config_reward(drpo_config *c, const char *name, drpo_reward_fn fn, void *user) {
    if (!c) return DRPO_E_USAGE;
    error_clear(&c->error);
    if (!name || !fn || name[0] == 0 || strlen(name) >= sizeof c->reward[0].name)
        return fail(&c->error, DRPO_E_USAGE, "a callback reward needs a function and a name of 1 to 63 characters");
    if (c->rewards == MAX_CALLBACK_REWARDS)
        return fail(&c->error, DRPO_E_USAGE, "more than %d callback rewards", MAX_CALLBACK_REWARDS);
    RewardCallback *r = &c->reward[c->rewards++];
    *r = (RewardCallback){.fn = fn, .user = user};
    memcpy(r->name, name, strlen(name) + 1);
    return 0;
}
