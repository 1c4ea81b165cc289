/* exec: any program as a reward, spoken to in lines of JSON (message.h, docs/rewards.md). */
#include <stdlib.h>

#include "step/reward/exec_pool.h"

/* Where the scores of one reply go. */
typedef struct Scores {
    int count;
    float *score;
} Scores;

static ReplyKind read_scores(void *user, const char *line, char *what, size_t size) {
    const Scores *s = user;
    return message_reply(line, s->count, s->score, what, size);
}

static int exec_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    Scores to = {pictures->count, scores};
    const ReplyReader reader = {read_scores, &to};
    return exec_pool_ask(r->state, prompt, pictures, &reader, err);
}

static void exec_destroy(Reward *r) { exec_pool_close(r->state); }

static int exec_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    char name[64];
    ExecPool *pool = NULL;
    exec_short_name("exec", spec->argument, name, sizeof name);
    Reward *r = reward_new(spec, name);
    if (!r) return fail(err, DRPO_E_MEMORY, "no memory for the reward exec:%.200s", spec->argument);
    const int code = exec_pool_open(spec, 0, &pool, err);
    if (code < 0) {
        free(r);
        return code;
    }
    r->state = pool;
    r->lanes = exec_pool_workers(pool);
    r->score = exec_score;
    r->destroy = exec_destroy;
    *out = r;
    return 0;
}

static const RewardOption options[] = {
    EXEC_POOL_OPTIONS("120", "60"),
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind exec_kind = {
    .name = "exec",
    .argument = "COMMAND",
    .scores = "whatever the program answers",
    .needs = "a command for /bin/sh that reads and writes lines of JSON (docs/rewards.md)",
    .range = "any finite number",
    .licence = "the program's own",
    .weights = "the program's own",
    .options = options,
    .retries = 2,
    .open = exec_open,
};
