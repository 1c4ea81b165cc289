/* The scene verifier as a reward: `scene` ranks by verdict and partial credit, `scene-correct` by the verdict alone. */
#include "step/reward/reward_internal.h"
#include "step/reward/scene.h"

typedef float (*VerdictPart)(const SceneVerdict *v);

static float whole_reward(const SceneVerdict *v) { return v->reward; }
static float verdict_alone(const SceneVerdict *v) { return v->correct ? 1 : 0; }

static int score_pictures(const Prompt *prompt, const Pictures *pictures, VerdictPart part, float *scores, Error *err) {
    SceneTask *task = NULL;
    TRY(scene_task_parse(prompt->metadata, &task, err));
    const size_t size = (size_t)pictures->height * (size_t)pictures->width * 3;
    int code = 0;
    for (int k = 0; k < pictures->count && code == 0; k++) {
        SceneVerdict verdict = {0};
        code = scene_verify(task, pictures->rgb + (size_t)k * size, pictures->height, pictures->width, &verdict, err);
        scores[k] = part(&verdict);
    }
    scene_task_free(task);
    return code;
}

static int scene_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    (void)r;
    return score_pictures(prompt, pictures, whole_reward, scores, err);
}

static int correct_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    (void)r;
    return score_pictures(prompt, pictures, verdict_alone, scores, err);
}

static int scene_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    Reward *r = reward_new(spec, spec->name);
    if (!r) return fail(err, DRPO_E_MEMORY, "no memory for the reward '%s'", spec->name);
    r->needs_metadata = true;
    r->score = spec->kind == &scene_kind ? scene_score : correct_score;
    *out = r;
    return 0;
}

const RewardKind scene_kind = {
    .name = "scene",
    .scores = "the embedded world's verifier: half for a picture that fulfils its prompt, half for how close it comes",
    .needs = "64x64 pictures, prompts with metadata (.jsonl)",
    .range = "0 to 1",
    .licence = "drpo's own",
    .weights = "none; written in C",
    .open = scene_open,
};

const RewardKind scene_correct_kind = {
    .name = "scene-correct",
    .scores = "the verdict alone",
    .needs = "64x64 pictures, prompts with metadata (.jsonl)",
    .range = "0 or 1",
    .licence = "drpo's own",
    .weights = "none; written in C",
    .open = scene_open,
};
