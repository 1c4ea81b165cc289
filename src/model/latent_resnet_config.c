/* config.json of the latent feature network -> LatentResnetConfig.
 *
 * Two layouts: networks that state their norm groups ("groups": width -> groups) floor the variance; the published
 * encoder has min(32, ...) groups and adds epsilon. "std_floor" overrides. */
#include <stdio.h>

#include "model/component_config.h"
#include "model/latent_resnet.h"

static const ConfigRule RULES[] = {
    {"in_channels", NULL}, {"layers", NULL},    {"width", NULL},       {"groups", NULL}, {"norm_eps", NULL},
    {"std_eps", NULL},     {"std_floor", NULL}, {"sample_size", NULL}, /* for people: it takes any size */
};

enum { MAX_WIDTH = 1 << 14, MAX_BLOCKS_PER_STAGE = 64, MOST_GROUPS = 32 };

static int largest_group_count(int width) {
    int groups = width < MOST_GROUPS ? width : MOST_GROUPS;
    while (width % groups) groups--;
    return groups;
}

static int read_groups(const JsonReader *r, LatentResnetConfig *c) {
    const json_t *table = json_object_get(r->object, "groups");
    if (table && !json_is_object(table))
        return fail(r->err, DRPO_E_INPUT, "%s: groups must map widths to numbers of groups", r->where);
    JsonReader groups = {table, r->where, r->err};
    for (int i = 0; i < c->stages; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", c->width[i]);
        c->groups[i] = largest_group_count(c->width[i]);
        if (table) TRY(component_int(&groups, key, c->groups[i], 1, MAX_WIDTH, &c->groups[i]));
        if (c->width[i] % c->groups[i])
            return fail(r->err, DRPO_E_INPUT, "%s: width %d does not divide into %d groups", r->where, c->width[i],
                        c->groups[i]);
    }
    return 0;
}

static int read_all(const JsonReader *r, void *config) {
    LatentResnetConfig *c = config;
    int64_t width[RESNET_MAX_STAGES];
    TRY(component_check(r, RULES, sizeof RULES / sizeof *RULES));
    json_require(r, "layers");
    json_require(r, "width");
    TRY(component_int(r, "in_channels", 4, 1, MAX_WIDTH, &c->in_channels));
    c->stages = (int)json_get_ints(r, "width", width, RESNET_MAX_STAGES);
    TRY(json_finish(r));
    if (c->stages == 0) return fail(r->err, DRPO_E_INPUT, "%s: width is empty", r->where);
    TRY(component_ints(r, "width", 0, 1, MAX_WIDTH, c->width, c->stages));
    TRY(component_ints(r, "layers", 0, 1, MAX_BLOCKS_PER_STAGE, c->blocks, c->stages));
    TRY(read_groups(r, c));
    c->norm_eps = (float)json_get_number(r, "norm_eps", 1e-5);
    c->std_eps = (float)json_get_number(r, "std_eps", 1e-6);
    c->std_floor = json_get_bool(r, "std_floor", json_has(r, "groups"));
    TRY(json_finish(r));
    if (!(c->norm_eps > 0) || !(c->std_eps > 0))
        return fail(r->err, DRPO_E_INPUT, "%s: norm_eps and std_eps must be positive", r->where);
    return 0;
}

int latent_resnet_config_read(const char *path, LatentResnetConfig *c, Error *err) {
    *c = (LatentResnetConfig){0};
    return component_read(path, read_all, c, err);
}
