/* Options of rewards: one table per kind beside one for all, checked once when a specification is read. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/reward_internal.h"

const RewardOption reward_common_options[] = {
    {"name", REWARD_TEXT, "", "", "its name in metrics"},
    {"batch", REWARD_COUNT, "0", "0..1024", "most pictures per request; 0: all of a prompt"},
    {"retries", REWARD_COUNT, "", "0..100", "further attempts after a fault"},
    {"backoff", REWARD_SECONDS, "0.5", "",
     "seconds before the second attempt; doubled for each further one, 30 at most"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

static const RewardOption *find_in(const RewardOption *options, const char *key) {
    for (; options && options->key; options++)
        if (strcmp(options->key, key) == 0) return options;
    return NULL;
}

static const RewardOption *find_option(const RewardKind *kind, const char *key) {
    const RewardOption *own = find_in(kind->options, key);
    return own ? own : find_in(reward_common_options, key);
}

/* Index of `word` in "a|b|c", -1: none. */
static int choice_index(const char *choices, const char *word) {
    const size_t length = strlen(word);
    for (int i = 0;; i++) {
        const size_t n = strcspn(choices, "|");
        if (n == length && strncmp(choices, word, n) == 0) return i;
        if (!choices[n]) return -1;
        choices += n + 1;
    }
}

static int check_value(const RewardSpec *s, const RewardOption *o, const char *text, Error *err) {
    char *end = NULL;
    errno = 0;
    const double number = strtod(text, &end);
    const bool is_number = end != text && !*end && isfinite(number);
    double low = 0, high = 0;
    switch (o->type) {
    case REWARD_TEXT:
        if (*text) return 0;
        return fail(err, DRPO_E_USAGE, "reward '%s': option %s is empty", s->name, o->key);
    case REWARD_SECONDS:
        if (is_number && number > 0 && number < 1e7) return 0;
        return fail(err, DRPO_E_USAGE, "reward '%s': option %s=%s must be a number of seconds greater than 0", s->name,
                    o->key, text);
    case REWARD_NUMBER:
        if (is_number) return 0;
        return fail(err, DRPO_E_USAGE, "reward '%s': option %s=%s must be a number", s->name, o->key, text);
    case REWARD_COUNT:
        low = (double)strtol(o->limits, &end, 10); /* "low..high" */
        high = (double)strtol(end + strspn(end, "."), NULL, 10);
        if (is_number && number == floor(number) && number >= low && number <= high) return 0;
        return fail(err, DRPO_E_USAGE, "reward '%s': option %s=%s must be a whole number of %.0f to %.0f", s->name,
                    o->key, text, low, high);
    case REWARD_CHOICE:
        if (choice_index(o->limits, text) >= 0) return 0;
        return fail(err, DRPO_E_USAGE, "reward '%s': %s=%s is unknown; use one of %s", s->name, o->key, text,
                    o->limits);
    }
    return fail(err, DRPO_E_INTERNAL, "reward option '%s' has no type", o->key);
}

static void append(char *list, size_t size, const char *text) {
    if (*list) strncat(list, ", ", size - strlen(list) - 1);
    strncat(list, text, size - strlen(list) - 1);
}

static int unknown_option(const RewardSpec *s, const char *key, Error *err) {
    char list[512] = "";
    const RewardOption *tables[] = {s->kind->options, reward_common_options};
    for (int t = 0; t < 2; t++)
        for (const RewardOption *o = tables[t]; o && o->key; o++) append(list, sizeof list, o->key);
    return fail(err, DRPO_E_USAGE, "reward '%s': unknown option '%s'; it takes %s%s", s->name, key, list,
                strncmp(s->argument, "//", 2) == 0 ? " (a query of the URL's own ends with another '?')" : "");
}

static int unknown_kind(const RewardSpec *s, Error *err) {
    char list[512] = "", one[64];
    for (int i = 0; reward_kind(i); i++) {
        const RewardKind *k = reward_kind(i);
        snprintf(one, sizeof one, "%s%s%s", k->name, k->argument ? ":" : "", k->argument ? k->argument : "");
        append(list, sizeof list, one);
    }
    return fail(err, DRPO_E_USAGE, "unknown reward '%s'; there are %s ('drpo rewards' tells more)", s->name, list);
}

int reward_spec_check(RewardSpec *s, Error *err) {
    for (int i = 0; reward_kind(i); i++)
        if (strcmp(reward_kind(i)->name, s->name) == 0) s->kind = reward_kind(i);
    const RewardKind *kind = s->kind;
    if (!kind) return unknown_kind(s, err);
    if (!kind->argument && *s->argument)
        return fail(err, DRPO_E_USAGE, "reward '%s' takes no argument; write just '%s'", s->name, s->name);
    if (kind->argument && !*s->argument)
        return fail(err, DRPO_E_USAGE, "reward '%s' lacks what follows the colon: %s:%s", s->name, s->name,
                    kind->argument);
    for (int k = 0; k < s->n_options; k++) {
        const RewardOption *o = find_option(kind, s->key[k]);
        if (o) TRY(check_value(s, o, s->value[k], err));
        if (!o && !kind->passes_options) return unknown_option(s, s->key[k], err);
    }
    return 0;
}

const char *reward_text(const RewardSpec *s, const char *key) {
    for (int k = 0; k < s->n_options; k++)
        if (strcmp(s->key[k], key) == 0) return s->value[k];
    const RewardOption *o = find_option(s->kind, key);
    return o ? o->initial : "";
}

double reward_number(const RewardSpec *s, const char *key) { return strtod(reward_text(s, key), NULL); }

int reward_choice(const RewardSpec *s, const char *key) {
    return choice_index(find_option(s->kind, key)->limits, reward_text(s, key));
}

char *reward_own_options(const RewardSpec *s) {
    size_t size = 1;
    for (int k = 0; k < s->n_options; k++) size += strlen(s->key[k]) + strlen(s->value[k]) + 2;
    char *text = calloc(size, 1);
    for (int k = 0; text && k < s->n_options; k++) {
        if (find_option(s->kind, s->key[k])) continue;
        snprintf(text + strlen(text), size - strlen(text), "%s%s=%s", *text ? "&" : "", s->key[k], s->value[k]);
    }
    return text;
}
