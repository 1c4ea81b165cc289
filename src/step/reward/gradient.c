/* Gradients of rewards with respect to pixels, for methods that use them: the weighted sum of a set. See reward.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/reward.h"

static int check_finite(const Reward *r, const float *values, size_t n, const char *what, Error *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return fail(err, DRPO_E_REWARD, "reward %s: its %s is not finite", r->label, what);
    return 0;
}

static int check_all(const RewardSet *s, Error *err) {
    for (int r = 0; r < s->count; r++)
        if (!s->reward[r]->score_gradient)
            return fail(err, DRPO_E_USAGE,
                        "reward %s has no gradient, which --method draft and vggflow need; 'drpo rewards' lists those "
                        "that have one",
                        s->reward[r]->label);
    return 0;
}

int reward_set_gradient(RewardSet *s, const Prompt *prompt, const float *images, int n, int height, int width,
                        double *scores, float *gradient, Error *err) {
    const size_t count = (size_t)n * 3 * (size_t)height * (size_t)width;
    TRY(check_all(s, err));
    float *slope = malloc((count + (size_t)n) * sizeof *slope), *score = slope + count;
    if (!slope) return fail(err, DRPO_E_MEMORY, "out of memory for the reward's gradient");
    int code = 0;
    memset(gradient, 0, count * sizeof *gradient);
    memset(scores, 0, (size_t)n * sizeof *scores);
    for (int r = 0; code == 0 && r < s->count; r++) {
        Reward *reward = s->reward[r];
        code = reward->score_gradient(reward, prompt, images, n, height, width, score, slope, err);
        if (code == 0) code = check_finite(reward, score, (size_t)n, "score", err);
        if (code == 0) code = check_finite(reward, slope, count, "gradient", err);
        for (int i = 0; code == 0 && i < n; i++) scores[i] += (double)reward->weight * score[i];
        for (size_t i = 0; code == 0 && i < count; i++) gradient[i] += reward->weight * slope[i];
    }
    free(slope);
    return code < 0 ? code : 0;
}
