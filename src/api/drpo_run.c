/* Public API: runs the verb that a config was made for. See include/drpo.h. */
#include "api/api.h"
#include "compare/verb_compare.h"
#include "eval/verb_eval.h"
#include "eval/verb_geneval.h"
#include "pretrain/verb_pretrain.h"
#include "report/verb_report.h"

typedef int (*Verb)(const Job *job, Error *err);

static const Verb verbs[DRPO_VERBS] = {
    [DRPO_TRAIN] = verb_train,       [DRPO_SAMPLE] = verb_sample,   [DRPO_SCORE] = verb_score,
    [DRPO_EVAL] = verb_eval,         [DRPO_INSPECT] = verb_inspect, [DRPO_PLAN] = verb_plan,
    [DRPO_EXPORT] = verb_export,     [DRPO_REPORT] = verb_report,   [DRPO_BENCH] = verb_bench,
    [DRPO_DOCTOR] = verb_doctor,     [DRPO_REWARDS] = verb_rewards, [DRPO_GENEVAL] = verb_geneval,
    [DRPO_REPLAY] = verb_replay,     [DRPO_COMPARE] = verb_compare, [DRPO_SWEEP] = verb_sweep,
    [DRPO_PRETRAIN] = verb_pretrain,
};

static void forward_line(void *user, int level, const char *text) {
    const drpo_callbacks *c = user;
    if (c && c->message) c->message(c->user, level, text);
}

int drpo_run(drpo_config *c, const drpo_callbacks *callbacks) {
    if (!c) return DRPO_E_USAGE;
    error_clear(&c->error);
    Job job = {.config = c->config,
               .log = {.line = forward_line, .user = (void *)callbacks},
               .callbacks = callbacks,
               .rewards = c->reward,
               .n_rewards = c->rewards};
    TRY(config_resolve(c->config, &c->error));
    int code = verbs[config_verb(c->config)](&job, &c->error);
    return code < 0 ? code : 0;
}
