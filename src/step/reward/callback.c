/* Callback: a function of the program that embeds the library, registered under a name. */
#include <stdlib.h>
#include <string.h>

#include "step/reward/reward_internal.h"

static int callback_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    const RewardCallback *c = r->state;
    const int code = c->fn(c->user, prompt->text, prompt->metadata, pictures->rgb, pictures->count, pictures->height,
                           pictures->width, scores);
    if (code != 0)
        return fail(err, DRPO_E_REWARD, "reward callback:%s returned %d for the prompt '%.200s'", c->name, code,
                    prompt->text);
    return 0;
}

static void callback_destroy(Reward *r) { free(r->state); }

static int unknown_name(const char *name, const RewardCallback *callbacks, int count, Error *err) {
    char list[256] = "";
    for (int k = 0; k < count; k++) {
        strncat(list, k ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, callbacks[k].name, sizeof list - strlen(list) - 1);
    }
    return fail(err, DRPO_E_USAGE, "reward callback:%s is not registered (%s); call drpo_config_reward first", name,
                count ? list : "there is none");
}

static int callback_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    const RewardCallback *found = NULL;
    for (int k = 0; k < context->n_callbacks; k++)
        if (strcmp(context->callbacks[k].name, spec->argument) == 0) found = &context->callbacks[k];
    if (!found) return unknown_name(spec->argument, context->callbacks, context->n_callbacks, err);
    Reward *r = reward_new(spec, found->name);
    RewardCallback *copy = malloc(sizeof *copy);
    if (!r || !copy) {
        free(r);
        free(copy);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward callback:%s", found->name);
    }
    *copy = *found;
    r->state = copy;
    r->score = callback_score;
    r->destroy = callback_destroy;
    *out = r;
    return 0;
}

const RewardKind callback_kind = {
    .name = "callback",
    .argument = "NAME",
    .scores = "whatever a function of the program that embeds libdrpo says",
    .needs = "a call of drpo_config_reward (include/drpo.h)",
    .range = "any finite number",
    .licence = "the program's own",
    .weights = "the program's own",
    .open = callback_open,
};
