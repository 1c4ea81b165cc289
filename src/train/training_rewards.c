/* Training: its rewards. They are opened before memory is planned, since some have networks of their own. */
#include "step/method/method.h"
#include "train/training.h"

static bool evaluates(const Config *c) { return config_has(c, OPT_EVAL_EVERY) && config_int(c, OPT_EVAL_EVERY) > 0; }

static int plan_set(const RewardSet *set, const RewardWork *work, Error *err) {
    for (int k = 0; k < set->count; k++) TRY(reward_plan(set->reward[k], work, err));
    return 0;
}

/* What updates and evaluations will ask. */
static int plan_work(Training *t, const Config *c, bool online, Error *err) {
    enum { USUAL_SIDE = 512 }; /* pictures are square; how large matters to none, all make them of their own size */
    const int side = config_int(c, OPT_RESOLUTION) ? (int)config_int(c, OPT_RESOLUTION) : USUAL_SIDE;
    LearnOptions learn;
    session_learn_options(c, &learn);
    RewardWork work = {.prompts = &t->prompts,
                       .pictures = (int)config_int(c, OPT_CANDIDATES),
                       .height = side,
                       .width = side,
                       .gradient = method_differentiates(&learn.method)};
    if (online) TRY(plan_set(&t->rewards, &work, err));
    if (!evaluates(c)) return 0;
    work.pictures = (int)config_int(c, OPT_EVAL_SEEDS);
    work.gradient = false;
    TRY(plan_set(&t->rewards, &work, err));
    return plan_set(&t->heldout, &work, err);
}

int training_rewards(Training *t, const Job *job, bool all, Error *err) {
    const Config *c = job->config;
    const bool online = config_choice(c, OPT_MODE) == MODE_ONLINE;
    if (!online && !evaluates(c)) return 0; /* offline: for evaluations only */
    if (!all) {
        TRY(job_reward_networks(job, &t->rewards, &t->heldout, &t->uncounted, err));
        return plan_work(t, c, online, err);
    }
    TRY(job_rewards(job, &t->rewards, err));
    TRY(job_heldout_rewards(job, &t->heldout, err));
    if (online) TRY(job_rewards_fit(&t->rewards, t->prompts.items, t->prompts.count, t->prompts_path, err));
    return plan_work(t, c, online, err);
}
