/* Config: flags of the command line and YAML files, both by way of config_set. See config.h. */
#include <string.h>

#include "format/yaml.h"
#include "train/config.h"
#include "train/config_value.h"

/* --no-x of a bool */
static OptionId negated(const Config *c, const char *key) {
    if (strncmp(key, "no-", 3) != 0 && strncmp(key, "no_", 3) != 0) return OPT_COUNT;
    OptionId id = config_find(config_verb(c), key + 3);
    return id != OPT_COUNT && option_info(id)->type == OPTION_BOOL ? id : OPT_COUNT;
}

/* One flag; *used: 1, or 2 when the next argument was its value. */
static int parse_flag(Config *c, const char *flag, const char *next, int *used, Error *err) {
    char key[128];
    const char *body = flag + (flag[1] == '-' ? 2 : 1);
    const char *equals = strchr(body, '=');
    size_t length = equals ? (size_t)(equals - body) : strlen(body);
    if (length == 0 || length >= sizeof key) return fail(err, DRPO_E_USAGE, "'%s' is not an option", flag);
    memcpy(key, body, length);
    key[length] = 0;
    *used = 1;
    OptionId id = config_find(config_verb(c), key);
    if (id == OPT_COUNT && negated(c, key) != OPT_COUNT && !equals)
        return config_set(c, key + 3, "false", SOURCE_FLAG, err);
    if (id == OPT_COUNT) return config_set(c, key, "", SOURCE_FLAG, err); /* says what is wrong */
    if (equals) return config_set(c, key, equals + 1, SOURCE_FLAG, err);
    if (option_info(id)->type == OPTION_BOOL) return config_set(c, key, "true", SOURCE_FLAG, err);
    if (!next || strncmp(next, "--", 2) == 0)
        return fail(err, DRPO_E_USAGE, "--%s needs a value: --%s %s", key, key, option_info(id)->metavar);
    *used = 2;
    return config_set(c, key, next, SOURCE_FLAG, err);
}

int config_parse(Config *c, int argc, const char *const *argv, Error *err) {
    bool flags = true;
    for (int i = 0; i < argc;) {
        int used = 1;
        if (flags && strcmp(argv[i], "--") == 0)
            flags = false;
        else if (flags && argv[i][0] == '-' && argv[i][1])
            TRY(parse_flag(c, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used, err));
        else
            TRY(config_set(c, "", argv[i], SOURCE_FLAG, err));
        i += used;
    }
    return 0;
}

typedef struct YamlTarget {
    Config *config;
    ConfigSource source;
} YamlTarget;

static int yaml_entry(void *user, const char *key, const char *value, int line, Error *err) {
    (void)line;
    YamlTarget *t = user;
    if (key[0] == 0) return fail(err, DRPO_E_USAGE, "an empty key");
    return config_set(t->config, key, value, t->source, err);
}

int config_load(Config *c, const char *path, ConfigSource source, Error *err) {
    YamlTarget target = {c, source};
    return yaml_read(path, yaml_entry, &target, err);
}

int config_resolve(Config *c, Error *err) {
    if (config_has(c, OPT_CONFIG) && config_text(c, OPT_CONFIG)[0])
        TRY(config_load(c, config_text(c, OPT_CONFIG), SOURCE_FILE, err));
    return config_has(c, OPT_METHOD) ? config_method_defaults(c, err) : 0;
}
