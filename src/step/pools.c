/* Pools of candidates that a reward said yes and no to. See pools.h. */
#include "step/pools.h"

#include <string.h>

static bool positive(double score) { return score >= 0.5; }
static int enough(int least, int wanted) { return least ? least : wanted; }

/* Puts candidate k among the lowest tickets of its side. */
static int enter_pool(int *pool, uint64_t *ticket, int n, int most, uint64_t own, int k) {
    int at = n < most ? n++ : most;
    for (; at > 0 && own < ticket[at - 1]; at--)
        if (at < most) {
            ticket[at] = ticket[at - 1];
            pool[at] = pool[at - 1];
        }
    if (at == most) return n;
    ticket[at] = own;
    pool[at] = k;
    return n;
}

int pools_select(const double *scores, int count, int positives, int least, int negatives, RngKey key, Selection *out,
                 Error *err) {
    uint64_t low[MAX_CANDIDATES], high[MAX_CANDIDATES];
    *out = (Selection){0};
    if (positives < 1 || negatives < 1 || positives > MAX_CANDIDATES || negatives > MAX_CANDIDATES)
        return fail(err, DRPO_E_USAGE, "positives %d, negatives %d: each must be 1 to %d", positives, negatives,
                    MAX_CANDIDATES);
    for (int k = 0; k < count; k++) {
        const uint64_t own = rng_bits(key, (uint64_t)k);
        if (positive(scores[k]))
            out->n_pos = enter_pool(out->pos, high, out->n_pos, positives, own, k);
        else
            out->n_neg = enter_pool(out->neg, low, out->n_neg, negatives, own, k);
    }
    if (out->n_pos >= enough(least, positives) && out->n_neg >= negatives) return 0;
    *out = (Selection){.skip = true};
    return 0;
}

size_t pools_stride(const Candidates *c) { return (size_t)c->rollout.rounds * (size_t)c->rollout.width; }

void pools_keep(Candidates *c) {
    Rollout *r = &c->rollout;
    const size_t n = (size_t)c->count, at = (size_t)r->drawn, stride = pools_stride(c);
    memcpy(r->noise + at * c->latent_count, c->noise, n * c->latent_count * sizeof(float));
    memcpy(r->score + at, c->score, n * sizeof(double));
    for (size_t k = 0; k < (size_t)c->rewards; k++) memcpy(r->raw + k * stride + at, c->raw + k * n, n * sizeof(float));
    r->drawn += c->count;
}

bool pools_want_more(const Candidates *c, const PoolOptions *o, int positives, int negatives) {
    const Rollout *r = &c->rollout;
    int yes = 0;
    for (int k = 0; k < r->drawn; k++) yes += positive(r->score[k]);
    return (size_t)r->drawn < pools_stride(c) && (yes < enough(o->positives, positives) || r->drawn - yes < negatives);
}

/* Row `at` becomes what was candidate `number` of the rollout. */
static void take_row(Candidates *c, int at, int number) {
    memcpy(c->noise + (size_t)at * c->latent_count, c->rollout.noise + (size_t)number * c->latent_count,
           c->latent_count * sizeof(float));
    c->score[at] = c->rollout.score[number];
}

int pools_choose(Candidates *c, const PoolOptions *o, int positives, int negatives, Error *err) {
    const Selection *from = &c->rollout.selection;
    const RngKey key = {o->seed, RNG_TICKET, c->draw.step, c->draw.prompt, 0};
    TRY(pools_select(c->rollout.score, c->rollout.drawn, positives, o->positives, negatives, key, &c->rollout.selection,
                     err));
    c->selection = (Selection){.n_pos = from->n_pos, .n_neg = from->n_neg, .skip = from->skip};
    if (from->skip) return 0;
    for (int k = 0; k < from->n_pos; k++) take_row(c, c->selection.pos[k] = k, from->pos[k]);
    for (int k = 0; k < from->n_neg; k++) take_row(c, c->selection.neg[k] = from->n_pos + k, from->neg[k]);
    c->count = from->n_pos + from->n_neg;
    c->n_moving = 0; /* all */
    if (o->optimize == OPTIMIZE_BOTH) return 0;
    const bool positives_move = o->optimize == OPTIMIZE_POSITIVES;
    c->n_moving = positives_move ? from->n_pos : from->n_neg;
    memcpy(c->moving, positives_move ? c->selection.pos : c->selection.neg, (size_t)c->n_moving * sizeof *c->moving);
    return 0;
}
