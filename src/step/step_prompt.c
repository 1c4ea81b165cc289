/* One prompt of an update, stage after stage, on one worker:
 *
 *     text -> noise -> generate -> decode -> reward -> select -> reference -> drift -> gradient
 */
#include <stdlib.h>
#include <string.h>

#include "step/agreement.h"
#include "step/differentiate.h"
#include "step/generate.h"
#include "step/look.h"
#include "step/losses.h"
#include "step/method/method.h"
#include "step/offline.h"
#include "step/pools.h"
#include "step/scenes.h"
#include "step/select.h"
#include "step/statistics.h"
#include "step/step_internal.h"

/* ---- the stages of one prompt, on one worker ---- */
static int draw_candidates(const Step *s, Worker *w) {
    Candidates *c = &w->candidates;
    PhaseClock clock = phase_start(&w->stats);
    TRY(generate_candidates(w->net.policy, w->text, c, &w->err));
    method_act(&s->options.learn.method, c->noise, c->latents, c->count, c->latent_count);
    phase_end(&clock, PHASE_GENERATE);
    TRY(statistics_check_latents(c, w->prompt, &w->err));
    if (s->options.offline.mode != MODE_ONLINE) return 0; /* nobody looks at pictures */
    TRY(decode_pass_run(w->net.decode, c->latents, c->count, c->rgb, &w->err));
    phase_end(&clock, PHASE_DECODE);
    return 0;
}

static int learn(const Step *s, Worker *w) {
    Candidates *c = &w->candidates;
    if (c->selection.skip) return 0; /* scores that say nothing add nothing */
    PhaseClock clock = phase_start(&w->stats);
    if (c->rollout.rounds) TRY(generate_candidates(w->net.policy, w->text, c, &w->err)); /* those chosen */
    phase_end(&clock, PHASE_GENERATE);
    if (w->net.reference) TRY(generate_reference(w->net.reference, w->text, c, &w->err));
    phase_end(&clock, PHASE_REFERENCE);
    LatentPass *aside = w->net.aside;
    if (aside && !w->net.given) TRY(look_at_candidates(aside, w->text, c, &w->err));
    if (aside && w->net.reference) TRY(look_at_reference(aside, w->text, c, &w->err));
    const bool scenes = s->options.offline.mode == MODE_SCENES;
    LossOptions losses = {s->options.drift, s->options.learn, s->options.mean_keys,
                          w->threads,       s->vgg_threshold, scenes};
    TRY(losses_gradient(s->maps, &losses, c, &w->stats, &w->err));
    if (aside) TRY(look_back(aside, w->text, c, &w->err));
    phase_end(&clock, PHASE_FEATURES);
    memset(w->grad, 0, s->adapter->count * sizeof(float));
    TRY(generate_gradient(w->net.policy, w->text, c, w->net.held, w->grad, &w->err));
    phase_end(&clock, PHASE_BACKWARD);
    return 0;
}

/* ---- one prompt as a whole ---- */
static int prepare(Step *s, Worker *w, const Prompt *prompt, int slot, int prompts, long number, NoiseSource *noise) {
    const float *text;
    w->prompt = prompt;
    w->stats = (StepStats){0};
    w->candidates.count = s->options.candidates;
    w->candidates.rollout.drawn = 0;
    w->candidates.draw = (RngKey){s->options.learn.method.seed, RNG_METHOD, (uint32_t)number, (uint32_t)slot, 0};
    error_clear(&w->err);
    PhaseClock clock = phase_start(&w->stats);
    TRY(text_pass_encode(s->text, prompt->text, &text, NULL, &w->err));
    memcpy(w->text, text, text_encoders_floats(&s->pipeline->text) * sizeof(float));
    phase_end(&clock, PHASE_TEXT);
    const int rounds = s->options.pools.rounds ? s->options.pools.rounds : 1;
    return noise_round(noise, number, slot, prompts, w->candidates.count, 0, rounds, w->candidates.noise, &w->err);
}

/* What is known of a prompt after its rewards; count 0 when there was none, or it failed. */
static ScoredPrompt scored_prompt(const Candidates *c, int slot) {
    const Rollout *r = &c->rollout;
    if (c->rewards == 0) return (ScoredPrompt){.slot = slot, .selection = &c->selection};
    if (r->rounds == 0) return (ScoredPrompt){slot, c->count, c->rewards, c->raw, (size_t)c->count, &c->selection};
    return (ScoredPrompt){slot, r->drawn, c->rewards, r->raw, pools_stride(c), &r->selection};
}

/* A prompt that could not be scored: nothing of it may be looked at. */
static int leave_out(Worker *w) {
    w->candidates.selection = (Selection){.skip = true};
    w->candidates.rewards = 0;
    w->stats.prompts_skipped = w->stats.prompts_failed = 1;
    w->stats.candidates = w->candidates.count;
    return 0;
}

static void count_prompt(const Step *s, Worker *w) {
    const Candidates *c = &w->candidates;
    const bool spread = s->options.spread_weight && c->selection.n_pos > 0 && c->selection.n_neg > 0;
    w->stats.prompts_skipped = c->selection.skip;
    w->stats.prompts_used = !c->selection.skip;
    if (!c->selection.skip) w->stats.weight = spread ? select_spread(c->score, &c->selection) : 1;
}

/* Given pictures take the reward's place, rendered scenes also the reference's. */
static int compare(const Step *s, Worker *w) {
    const StepOptions *o = &s->options;
    Candidates *c = &w->candidates;
    PhaseClock clock = phase_start(&w->stats);
    const OfflinePasses passes = {w->net.encode, w->net.given};
    const bool anchor = feature_maps_is_anchor(s->maps, c->features - 1);
    if (w->net.aside) TRY(look_at_candidates(w->net.aside, w->text, c, &w->err));
    c->selection = (Selection){0};
    if (o->offline.mode == MODE_SCENES) {
        const ScenePasses scenes = {w->net.encode, w->net.given};
        TRY(scenes_reference(&scenes, o->offline.reliable, w->text, w->prompt, c, &w->err));
    } else {
        TRY(offline_look(&passes, &o->offline, w->text, w->prompt, c, &w->err));
    }
    if (o->offline.mode == MODE_OFFLINE_DISTANCE) {
        TRY(offline_score(&o->offline, anchor, c, &w->err));
        TRY(select_candidates(c->score, c->count, o->positives, o->negatives, o->min_spread, &c->selection, &w->err));
        offline_choose(&o->offline, c);
    }
    c->rewards = 1;
    statistics_add_scores(&w->stats, c, o->offline.mode == MODE_OFFLINE_DISTANCE);
    count_prompt(s, w);
    phase_end(&clock, PHASE_FEATURES);
    return 0;
}

static int ask_gradient(void *user, const Prompt *prompt, const float *images, int n, int height, int width,
                        double *scores, float *gradient, Error *err) {
    return reward_set_gradient(user, prompt, images, n, height, width, scores, gradient, err);
}

/* Scores the pictures there are; false in `scored` when no reward could and that is forgiven. */
static int ask(Worker *w, RewardSet *rewards, float *raw, double *score, bool *scored) {
    const Candidates *c = &w->candidates;
    PhaseClock clock = phase_start(&w->stats);
    const Pictures pictures = {c->rgb, c->count, c->height, c->width};
    const long faults = reward_set_faults(rewards);
    const int code = reward_set_score(rewards, w->prompt, &pictures, raw, score, &w->err);
    w->stats.reward_faults += (int)(reward_set_faults(rewards) - faults);
    phase_end(&clock, PHASE_REWARD);
    *scored = code == 0;
    return reward_set_forgive(rewards, code, &w->err) ? 0 : code;
}

static int ask_of_candidates(Worker *w, RewardSet *rewards, bool *scored) {
    w->candidates.rewards = rewards->count;
    return ask(w, rewards, w->candidates.raw, w->candidates.score, scored);
}

static int choose(const Step *s, Worker *w, RewardSet *rewards) {
    const StepOptions *o = &s->options;
    Candidates *c = &w->candidates;
    PhaseClock clock = phase_start(&w->stats);
    const ScoredPrompt seen = scored_prompt(c, 0);
    w->stats.diversity += candidates_diversity(c);
    statistics_add_rewards(&w->stats, seen.raw, seen.stride, seen.count, seen.rewards);
    if (c->rollout.rounds)
        TRY(pools_choose(c, &o->pools, o->positives, o->negatives, &w->err));
    else
        TRY(select_candidates(c->score, c->count, o->positives, o->negatives, o->min_spread, &c->selection, &w->err));
    if (w->net.picture) {
        c->selection.skip = false; /* a slope teaches even where all scores are equal */
        const GradientSource source = {ask_gradient, rewards};
        const int code = differentiate(w->net.picture, &source, w->prompt, c, &w->err);
        if (reward_set_forgive(rewards, code, &w->err)) return leave_out(w);
        TRY(code);
    }
    phase_end(&clock, PHASE_REWARD);
    count_prompt(s, w);
    return 0;
}

/* Takes the next prompt and prepares it; its number, or -1 when there is none. */
static int enter(Round *r, Worker *w, int *code) {
    pthread_mutex_lock(&r->entry);
    const int index = turns_take(&r->turns, r->n);
    if (index >= 0) *code = prepare(r->step, w, &r->prompts[index], index, r->n, r->number, r->noise);
    pthread_mutex_unlock(&r->entry);
    return index;
}

/* With pools: further rounds until both sides have enough, as far as rewards answer. */
static int fill_pools(Round *r, Worker *w, int index, bool *scored) {
    const StepOptions *o = &r->step->options;
    Candidates *c = &w->candidates;
    pools_keep(c);
    while (*scored && pools_want_more(c, &o->pools, o->positives, o->negatives)) {
        pthread_mutex_lock(&r->entry);
        int code = noise_round(r->noise, r->number, index, r->n, c->count, c->rollout.drawn / c->count,
                               c->rollout.rounds, c->noise, &w->err);
        pthread_mutex_unlock(&r->entry);
        TRY(code);
        turns_compute(&r->turns);
        code = draw_candidates(r->step, w);
        turns_rest(&r->turns);
        TRY(code);
        TRY(ask_of_candidates(w, r->rewards, scored));
        if (*scored) pools_keep(c);
    }
    return 0;
}

static bool agreement_due(const StepOptions *o, long number) {
    return number == 0 || (o->agreement_every > 0 && (number + 1) % o->agreement_every == 0);
}

/* The same candidates once more through the full decoder, whose pictures take the place of those that are done with. */
static int score_full(Round *r, Worker *w, float *raw, double *score) {
    const StepOptions *o = &r->step->options;
    Selection chosen, other;
    Candidates *c = &w->candidates;
    PhaseClock clock = phase_start(&w->stats);
    turns_compute(&r->turns);
    const int code = decode_pass_run(w->net.full, c->latents, c->count, c->rgb, &w->err);
    turns_rest(&r->turns);
    TRY(code);
    phase_end(&clock, PHASE_DECODE);
    bool scored;
    TRY(ask(w, r->rewards, raw, score, &scored));
    if (!scored) return 0;
    const bool ranked = o->pools.rounds == 0;
    if (ranked) {
        TRY(select_candidates(c->score, c->count, o->positives, o->negatives, o->min_spread, &chosen, &w->err));
        TRY(select_candidates(score, c->count, o->positives, o->negatives, o->min_spread, &other, &w->err));
    }
    const Ranking small = {c->score, ranked ? &chosen : NULL}, full = {score, ranked ? &other : NULL};
    agreement_add(&w->stats.agreement, &small, &full, c->count);
    return 0;
}

static int look_for_agreement(Round *r, Worker *w) {
    if (!w->net.full || !agreement_due(&r->step->options, r->number)) return 0;
    const size_t n = (size_t)w->candidates.count;
    float *raw = malloc((size_t)r->rewards->count * n * sizeof *raw);
    double *scores = malloc(n * sizeof *scores);
    const int code = raw && scores ? score_full(r, w, raw, scores) : fail(&w->err, DRPO_E_MEMORY, "out of memory");
    free(raw);
    free(scores);
    return code;
}

static int score(Round *r, Worker *w, int index) {
    bool scored = false;
    if (w->net.given) return compare(r->step, w);
    TRY(ask_of_candidates(w, r->rewards, &scored));
    if (scored) TRY(look_for_agreement(r, w));
    if (scored && w->candidates.rollout.rounds) TRY(fill_pools(r, w, index, &scored));
    return scored ? choose(r->step, w, r->rewards) : leave_out(w);
}

/* A prompt behind one that failed is given up: its result would not be used. */
static int run_prompt(Round *r, Worker *w, int index, int code) {
    turns_compute(&r->turns);
    if (code == 0) code = draw_candidates(r->step, w);
    turns_rest(&r->turns);
    const bool wanted = turns_score(&r->turns, index);
    if (code == 0 && wanted) code = score(r, w, index);
    turns_pass(&r->turns, code < 0);
    if (code < 0 || !wanted) return code;
    turns_compute(&r->turns);
    code = learn(r->step, w);
    turns_rest(&r->turns);
    return code;
}

static int collect(Step *s, Worker *w, int index, StepStats *stats) {
    statistics_join(stats, &w->stats, s->workers.count);
    const ScoredPrompt seen = scored_prompt(&w->candidates, index);
    if (s->observer && !w->net.given) TRY(s->observer(s->user, &seen, &w->err));
    if (w->candidates.selection.skip) return 0;
    if (s->options.learn.method.kind == METHOD_VGGFLOW)
        for (int i = 0; i < w->candidates.count && s->norms < s->options.prompts * s->options.candidates; i++)
            s->norm[s->norms++] = w->candidates.norm[i];
    float weight = (float)w->stats.weight;
    for (size_t i = 0; i < s->adapter->count; i++) s->grad[i] += weight * w->grad[i];
    return 0;
}

void step_work(Worker *w, void *user) {
    Round *r = user;
    int code = 0;
    for (int index; (index = enter(r, w, &code)) >= 0;) {
        code = run_prompt(r, w, index, code);
        turns_add(&r->turns, index);
        if (code >= 0 && r->err->code == 0) code = collect(r->step, w, index, r->stats);
        if (code < 0 && r->err->code == 0) *r->err = w->err;
        turns_added(&r->turns, code < 0);
    }
}
