/* The verb `rewards`: every kind of reward, what it needs and promises, from the kinds' own descriptions. */
#include <stdio.h>
#include <stdlib.h>

#include "format/json.h"
#include "step/reward/reward_kind.h"
#include "train/job.h"

static void print_options(const Job *job, const RewardOption *o) {
    for (; o && o->key; o++) {
        char left[96];
        snprintf(left, sizeof left, "?%s=%s", o->key, o->type == REWARD_CHOICE ? o->limits : "...");
        job_result(job, "    %-22s %s%s%s%s", left, o->help, *o->initial ? " [" : "", o->initial,
                   *o->initial ? "]" : "");
    }
}

static void print_kind(const Job *job, const RewardKind *k) {
    job_result(job, "%s%s%s", k->name, k->argument ? ":" : "", k->argument ? k->argument : "");
    job_result(job, "    scores   %s", k->scores);
    job_result(job, "    needs    %s", k->needs);
    job_result(job, "    range    %s", k->range);
    job_result(job, "    licence  %s", k->licence);
    job_result(job, "    weights  %s", k->weights);
    print_options(job, k->options);
    job_result(job, "%s", "");
}

static json_t *options_json(const RewardOption *o) {
    json_t *list = json_array();
    for (; o && o->key; o++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s}", "key", o->key, "default", o->initial, "meaning", o->help));
    return list;
}

static int print_json(const Job *job, Error *err) {
    json_t *list = json_array();
    for (int i = 0; reward_kind(i); i++) {
        const RewardKind *k = reward_kind(i);
        json_array_append_new(list, json_pack("{s:s, s:s?, s:s, s:s, s:s, s:s, s:s, s:o}", "name", k->name, "argument",
                                              k->argument, "scores", k->scores, "needs", k->needs, "range", k->range,
                                              "licence", k->licence, "weights", k->weights, "options",
                                              options_json(k->options)));
    }
    char *text = json_dumps(list, JSON_INDENT(2));
    if (text) job_result(job, "%s", text);
    json_decref(list);
    const int code = text ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    free(text);
    return code;
}

int verb_rewards(const Job *job, Error *err) {
    if (config_bool(job->config, OPT_JSON)) return print_json(job, err);
    job_result(job, "%s", "--reward NAME[:ARGUMENT][?option=value&...][@weight]");
    job_result(job, "%s", "");
    for (int i = 0; reward_kind(i); i++) print_kind(job, reward_kind(i));
    job_result(job, "%s", "every reward");
    print_options(job, reward_common_options);
    return 0;
}
