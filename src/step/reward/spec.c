/* Specification: NAME[:ARG][?option=value&...][@weight] cut into its parts.
 *
 * A command may itself hold '@' and '?': the weight is what follows the last '@' if that is a number, the options what
 * follows the last '?' if that has the form key=value&key=value without blanks. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/reward_internal.h"

static int cut_weight(RewardSpec *s, const char *whole, Error *err) {
    s->weight = 1;
    char *at = strrchr(s->text, '@'), *end = NULL;
    if (!at || !at[1] || isspace((unsigned char)at[1])) return 0;
    const double value = strtod(at + 1, &end);
    if (*end) return 0; /* not a number: part of the argument */
    if (!isfinite(value) || value < 0)
        return fail(err, DRPO_E_USAGE, "reward '%s': weight %s must be a number of at least 0", whole, at + 1);
    s->weight = (float)value;
    s->weighted = true;
    *at = 0;
    return 0;
}

static bool looks_like_options(const char *text) {
    while (*text) {
        const char *key = text;
        while (islower((unsigned char)*text) || *text == '_') text++;
        if (text == key || *text != '=') return false;
        while (*text && *text != '&') {
            if (isspace((unsigned char)*text)) return false;
            text++;
        }
        if (*text == '&' && !*++text) return false;
    }
    return true;
}

static int cut_options(RewardSpec *s, const char *whole, Error *err) {
    char *mark = strrchr(s->text, '?');
    if (!mark || !mark[1] || !looks_like_options(mark + 1)) return 0;
    *mark = 0;
    for (char *save = NULL, *part = strtok_r(mark + 1, "&", &save); part; part = strtok_r(NULL, "&", &save)) {
        if (s->n_options == REWARD_MAX_OPTIONS)
            return fail(err, DRPO_E_USAGE, "reward '%s': more than %d options", whole, REWARD_MAX_OPTIONS);
        char *equals = strchr(part, '=');
        *equals = 0;
        for (int k = 0; k < s->n_options; k++)
            if (strcmp(s->key[k], part) == 0)
                return fail(err, DRPO_E_USAGE, "reward '%s': option '%s' is given twice", whole, part);
        s->key[s->n_options] = part;
        s->value[s->n_options++] = equals + 1;
    }
    return 0;
}

int reward_spec_parse(const char *text, RewardSpec *out, Error *err) {
    *out = (RewardSpec){.text = strdup(text), .argument = ""};
    if (!out->text) return fail(err, DRPO_E_MEMORY, "no memory for the reward '%s'", text);
    int code = cut_weight(out, text, err);
    if (code == 0) code = cut_options(out, text, err);
    if (code < 0) {
        reward_spec_free(out);
        return code;
    }
    out->name = out->text;
    char *colon = strchr(out->text, ':');
    if (colon) {
        *colon = 0;
        out->argument = colon + 1;
    }
    return 0;
}

void reward_spec_free(RewardSpec *s) {
    free(s->text);
    *s = (RewardSpec){0};
}
