/* Statistics: sums over prompts become the means that metrics.jsonl and the progress line show. */
#include "step/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "step/agreement.h"

PhaseClock phase_start(StepStats *stats) { return (PhaseClock){stats, clock_seconds()}; }

void phase_end(PhaseClock *clock, int phase) {
    double now = clock_seconds();
    clock->stats->seconds[phase] += now - clock->last;
    clock->last = now;
}

int statistics_check_latents(const Candidates *c, const Prompt *prompt, Error *err) {
    for (size_t i = 0; i < (size_t)c->count * c->latent_count; i++)
        if (!isfinite(c->latents[i]))
            return fail(err, DRPO_E_NUMERIC, "candidate %zu of prompt \"%s\" is not finite; try a smaller --lr",
                        i / c->latent_count, prompt->text);
    return 0;
}

void statistics_add_rewards(StepStats *stats, const float *raw, size_t stride, int count, int rewards) {
    double sum = 0, squares = 0, best = -INFINITY, worst = INFINITY;
    for (int i = 0; i < count; i++) {
        double total = 0;
        for (int r = 0; r < rewards; r++) {
            double value = raw[(size_t)r * stride + (size_t)i];
            stats->raw_mean[r] += value / count;
            total += value / rewards;
        }
        sum += total;
        squares += total * total;
        best = fmax(best, total);
        worst = fmin(worst, total);
    }
    double mean = sum / count;
    stats->reward_mean += mean;
    stats->reward_std += sqrt(fmax(squares / count - mean * mean, 0));
    stats->reward_best += best;
    stats->reward_worst += worst;
    stats->candidates += count;
}

void statistics_add_scores(StepStats *stats, const Candidates *c, bool scored) {
    double sum = 0, squares = 0, best = -INFINITY, worst = INFINITY;
    stats->diversity += candidates_diversity(c);
    stats->candidates += c->count;
    if (!scored) { /* no reward is no reward of 0 */
        stats->reward_mean = stats->reward_std = stats->reward_best = stats->reward_worst = NAN;
        return;
    }
    for (int i = 0; i < c->count; i++) {
        sum += c->score[i];
        squares += c->score[i] * c->score[i];
        best = fmax(best, c->score[i]);
        worst = fmin(worst, c->score[i]);
    }
    const double mean = sum / c->count;
    stats->reward_mean += mean;
    stats->reward_std += sqrt(fmax(squares / c->count - mean * mean, 0));
    stats->reward_best += best;
    stats->reward_worst += worst;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double statistics_quantile(double *values, int n, double quantile) {
    qsort(values, (size_t)n, sizeof *values, ascending);
    const double at = quantile * (n - 1);
    const int low = (int)at;
    return low + 1 < n ? values[low] + (at - low) * (values[low + 1] - values[low]) : values[n - 1];
}

void statistics_join(StepStats *total, const StepStats *one, int workers) {
    total->reward_mean += one->reward_mean;
    total->reward_std += one->reward_std;
    total->reward_best += one->reward_best;
    total->reward_worst += one->reward_worst;
    for (int r = 0; r < MAX_REWARDS; r++) total->raw_mean[r] += one->raw_mean[r];
    total->pref_loss += one->pref_loss;
    total->ref_loss += one->ref_loss;
    total->feature_scale += one->feature_scale;
    total->latent_distance += one->latent_distance;
    total->diversity += one->diversity;
    total->weight += one->weight;
    total->prompts_used += one->prompts_used;
    total->prompts_skipped += one->prompts_skipped;
    total->prompts_failed += one->prompts_failed;
    total->reward_faults += one->reward_faults;
    total->candidates += one->candidates;
    agreement_join(&total->agreement, &one->agreement);
    for (int p = 0; p < PHASES; p++) total->seconds[p] += one->seconds[p] / workers;
}

void statistics_finish(StepStats *stats, int prompts) {
    double *per_prompt[] = {&stats->reward_mean, &stats->reward_std, &stats->reward_best, &stats->reward_worst,
                            &stats->diversity};
    const int scored = prompts - stats->prompts_failed; /* none: 0/0, which records show as null */
    for (size_t i = 0; i < sizeof per_prompt / sizeof *per_prompt; i++) *per_prompt[i] /= scored;
    for (int r = 0; r < MAX_REWARDS; r++) stats->raw_mean[r] /= scored;
    agreement_finish(&stats->agreement);
    double *per_used[] = {&stats->pref_loss, &stats->ref_loss, &stats->feature_scale, &stats->latent_distance};
    for (size_t i = 0; stats->prompts_used && i < sizeof per_used / sizeof *per_used; i++)
        *per_used[i] /= stats->prompts_used;
}
