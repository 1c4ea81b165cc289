/* hpsv3: HPSv3's mu as a reward, computed here (model/hpsv3.c). One picture after another: its 8 billion weights keep
 * every thread busy with one. */
#include <stdlib.h>
#include <string.h>

#include "model/hpsv3.h"
#include "step/reward/reward_internal.h"

typedef struct Hpsv3State {
    Backend *backend;
    Hpsv3 *model;
} Hpsv3State;

static int hpsv3_score_all(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    const Hpsv3State *s = r->state;
    const size_t size = (size_t)pictures->height * (size_t)pictures->width * 3;
    TRY(backend_commit(s->backend, err));
    for (int k = 0; k < pictures->count; k++) {
        float both[2]; /* mu, log sigma */
        TRY(hpsv3_score(s->model, prompt->text, pictures->rgb + (size_t)k * size, pictures->width, pictures->height,
                        both, err));
        scores[k] = both[0];
    }
    return 0;
}

/* One text is planned at a time, so the longest decides. */
static int hpsv3_plan_longest(Reward *r, const RewardWork *work, Error *err) {
    const Hpsv3State *s = r->state;
    const char *longest = "";
    for (size_t i = 0; i < work->prompts->count; i++)
        if (strlen(work->prompts->items[i].text) > strlen(longest)) longest = work->prompts->items[i].text;
    if (s->backend->defer) s->backend->defer(s->backend);
    return hpsv3_plan(s->model, longest, work->width, work->height, err);
}

static void hpsv3_memory(const Reward *r, RewardMemory *out) {
    const Hpsv3State *s = r->state;
    out->filled = hpsv3_pending(s->model, &out->mapped);
    out->reread = out->mapped;
}

static void hpsv3_destroy(Reward *r) {
    Hpsv3State *s = r->state;
    hpsv3_free(s->model);
    backend_free(s->backend);
    free(s);
}

static int hpsv3_open_reward(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    const char *questions = reward_text(spec, "questions");
    Reward *r = reward_new(spec, spec->name);
    Hpsv3State *s = calloc(1, sizeof *s);
    if (!r || !s) {
        free(r);
        free(s);
        return fail(err, DRPO_E_MEMORY, "no memory for the reward 'hpsv3'");
    }
    r->state = s;
    r->ignores_metadata = true;
    r->score = hpsv3_score_all;
    r->plan = hpsv3_plan_longest;
    r->memory = hpsv3_memory;
    r->destroy = hpsv3_destroy;
    s->backend = backend_cpu_new((int)reward_number(spec, "threads"), err);
    int code = s->backend ? hpsv3_open(spec->argument, *questions ? questions : NULL, s->backend, &s->model, err)
                          : DRPO_E_INTERNAL;
    if (code == 0) {
        *out = r;
        return 0;
    }
    reward_close(r);
    return fail_in(err, "reward hpsv3 ('drpo rewards' tells what its folder must hold and where to get it)");
}

static const RewardOption hpsv3_options[] = {
    {"questions", REWARD_TEXT, "", "", "file with the authors' user text; default FOLDER/user_text_template.txt"},
    {"threads", REWARD_COUNT, "0", "0..256", "threads of the network; 0: as many as there are cores"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind hpsv3_kind = {
    .name = "hpsv3",
    .argument = "FOLDER",
    .scores = "HPSv3's mu: how much people like the picture for its prompt",
    .needs = "a folder with HPSv3.safetensors, user_text_template.txt, and Qwen2-VL-7B-Instruct's config.json and "
             "tokenizer; 16 GB of memory, or time to read the weights from disk for every picture",
    .range = "about -12 to 17, higher is better",
    .licence = "weights MIT (base model Apache-2.0)",
    .networks = true,
    .weights =
        "hf download MizzenAI/HPSv3 HPSv3.safetensors; hf download Qwen/Qwen2-VL-7B-Instruct config.json vocab.json "
        "merges.txt tokenizer_config.json; the text: tools/hpsv3_questions.py",
    .options = hpsv3_options,
    .open = hpsv3_open_reward,
};
