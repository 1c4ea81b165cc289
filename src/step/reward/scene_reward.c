/* The scene verifier as a reward: `scene` ranks by verdict and partial credit, `scene-correct` by the verdict alone. */
#include <string.h>

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

int scene_reward_open(const RewardSpec *spec, Reward **out, Error *err) {
    static const char *const allowed[] = {"name", NULL};
    TRY(reward_options_known(spec, allowed, err));
    if (*spec->argument)
        return fail(err, DRPO_E_USAGE, "reward '%s' takes no argument; write just '%s'", spec->name, spec->name);
    Reward *r = reward_new(spec, spec->name);
    if (!r) return fail(err, DRPO_E_MEMORY, "no memory for the reward '%s'", spec->name);
    r->needs_metadata = true;
    r->score = strcmp(spec->name, "scene") == 0 ? scene_score : correct_score;
    *out = r;
    return 0;
}
