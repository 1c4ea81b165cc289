/* Select: a stable ranking of one prompt's candidates; its top attracts, its bottom repels.
 *
 * A prompt whose scores are equal or not finite has no ranking: with it the drift would still push at full strength, in
 * an arbitrary direction. Such prompts are skipped. In the update: reward -> select -> drift. */
#include "step/select.h"

#include <math.h>

/* Insertion sort, best first: stable, and short lists are all it sees. */
static void rank_scores(const double *scores, int count, int *order) {
    for (int i = 0; i < count; i++) {
        int at = i;
        for (; at > 0 && scores[order[at - 1]] < scores[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
}

static bool says_something(const double *scores, int count, double min_spread) {
    double low = INFINITY, high = -INFINITY;
    for (int i = 0; i < count; i++) {
        if (!isfinite(scores[i])) return false;
        low = fmin(low, scores[i]);
        high = fmax(high, scores[i]);
    }
    return high - low > min_spread;
}

int select_candidates(const double *scores, int count, int positives, int negatives, double min_spread, Selection *out,
                      Error *err) {
    *out = (Selection){0};
    if (count < 2 || count > MAX_CANDIDATES)
        return fail(err, DRPO_E_USAGE, "candidates: %d; use 2 to %d", count, MAX_CANDIDATES);
    if (positives < 1 || negatives < 1)
        return fail(err, DRPO_E_USAGE, "positives %d, negatives %d: each must be at least 1", positives, negatives);
    if (positives + negatives > count)
        return fail(err, DRPO_E_USAGE,
                    "positives %d + negatives %d exceed the %d candidates; lower them or raise candidates", positives,
                    negatives, count);
    if (!says_something(scores, count, min_spread)) {
        out->skip = true;
        return 0;
    }
    int order[MAX_CANDIDATES];
    rank_scores(scores, count, order);
    out->n_pos = positives;
    out->n_neg = negatives;
    for (int k = 0; k < positives; k++) out->pos[k] = order[k];
    for (int k = 0; k < negatives; k++) out->neg[k] = order[count - negatives + k];
    return 0;
}

double select_spread(const double *scores, const Selection *s) {
    double best = 0, worst = 0;
    for (int k = 0; k < s->n_pos; k++) best += scores[s->pos[k]] / s->n_pos;
    for (int k = 0; k < s->n_neg; k++) worst += scores[s->neg[k]] / s->n_neg;
    return best - worst;
}
