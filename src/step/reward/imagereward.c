/* imagereward: ImageReward v1 as a reward, computed here (model/imagereward.c). */
#include <stdlib.h>

#include "model/imagereward.h"
#include "step/reward/reward_internal.h"

typedef struct ImageRewardState {
    Backend *backend;
    ImageReward *model;
} ImageRewardState;

static int imagereward_score_all(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    const ImageRewardState *s = r->state;
    TRY(backend_commit(s->backend, err));
    return imagereward_score(s->model, prompt->text, pictures->rgb, pictures->count, pictures->width, pictures->height,
                             scores, err);
}

static int imagereward_plan_all(Reward *r, const RewardWork *work, Error *err) {
    const ImageRewardState *s = r->state;
    if (s->backend->defer) s->backend->defer(s->backend);
    for (size_t i = 0; i < work->prompts->count; i++)
        TRY(imagereward_plan(s->model, work->prompts->items[i].text, work->pictures, err));
    return 0;
}

static void imagereward_memory(const Reward *r, RewardMemory *out) {
    const ImageRewardState *s = r->state;
    out->filled = imagereward_pending(s->model, &out->mapped);
}

static void imagereward_destroy(Reward *r) {
    ImageRewardState *s = r->state;
    imagereward_free(s->model);
    backend_free(s->backend);
    free(s);
}

static int imagereward_open_reward(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    Reward *r = reward_new(spec, spec->name);
    ImageRewardState *s = calloc(1, sizeof *s);
    if (!r || !s) {
        free(r);
        free(s);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward 'imagereward'");
    }
    r->state = s;
    r->ignores_metadata = true;
    r->score = imagereward_score_all;
    r->plan = imagereward_plan_all;
    r->memory = imagereward_memory;
    r->destroy = imagereward_destroy;
    s->backend = backend_cpu_new((int)reward_number(spec, "threads"), err);
    int code = s->backend ? imagereward_open(spec->argument, s->backend, &s->model, err) : DRPO_E_INTERNAL;
    if (code == 0) {
        *out = r;
        return 0;
    }
    reward_close(r);
    return fail_in(err, "reward imagereward ('drpo rewards' tells what its folder must hold and where to get it)");
}

static const RewardOption imagereward_options[] = {
    {"threads", REWARD_COUNT, "0", "0..256", "threads of the network; 0: as many as there are cores"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind imagereward_kind = {
    .name = "imagereward",
    .argument = "FOLDER",
    .scores = "ImageReward v1: how well the picture fits its prompt and how good it is",
    .needs = "a folder with ImageReward.pt and vocab.txt of bert-base-uncased; 2.5 GB of memory",
    .range = "about -2.3 to 2.1, higher is better",
    .licence = "weights Apache-2.0",
    .networks = true,
    .weights =
        "hf download THUDM/ImageReward ImageReward.pt med_config.json; hf download google-bert/bert-base-uncased "
        "vocab.txt",
    .options = imagereward_options,
    .open = imagereward_open_reward,
};
