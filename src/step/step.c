/* Step: one DrPO update, stage after stage.
 *
 *     prompt -> text -> noise -> generate -> decode -> reward -> select -> reference -> drift -> gradient -> optimize
 */
#include "step/step.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "step/candidates.h"
#include "step/generate.h"
#include "step/losses.h"
#include "step/networks.h"
#include "step/select.h"
#include "step/statistics.h"

struct Step {
    StepOptions options;
    Adapter *adapter;
    Pipeline *pipeline;
    FeatureMaps *maps;
    Networks net;
    Candidates candidates;
    float *grad; /* [adapter->count] */
};

static bool has_reference(const StepOptions *o) { return o->drift.lambda_ref > 0 || o->drift.latent_l2 > 0; }

static int open_networks(Step *s, Backend *b, Error *err) {
    const StepOptions *o = &s->options;
    Pipeline *p = s->pipeline;
    int size;
    TRY(pipeline_latent_side(p, o->resolution, &size, err));
    TRY(feature_maps_open(o->features, o->drift.latent_l2 > 0, &s->maps, err));
    FeatureBuilder features = feature_maps_builder(s->maps);
    NetworksOptions n = {.candidates = o->candidates,
                         .chunk = o->chunk,
                         .budget = o->memory_budget,
                         .height = size,
                         .width = size,
                         .released_x0 = o->released_x0,
                         .reference = has_reference(o),
                         .adapter = s->adapter,
                         .features = &features};
    TRY(networks_open(p, b, &n, &s->net, err));
    size_t latent = (size_t)p->latent_channels * (size_t)size * (size_t)size;
    TRY(candidates_allocate(&s->candidates, o->candidates, latent, size * p->factor, size * p->factor, s->net.policy,
                            err));
    s->grad = calloc(s->adapter->count, sizeof(float));
    return s->grad ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

int step_new(Pipeline *p, Backend *b, Adapter *a, const StepOptions *o, Step **out, Error *err) {
    Step *s = calloc(1, sizeof *s);
    if (!s) return fail(err, DRPO_E_MEMORY, "out of memory");
    s->options = *o;
    s->adapter = a;
    s->pipeline = p;
    int code = open_networks(s, b, err);
    if (code < 0) {
        step_free(s);
        return code;
    }
    *out = s;
    return 0;
}

void step_free(Step *s) {
    if (!s) return;
    networks_close(&s->net);
    candidates_free(&s->candidates);
    feature_maps_close(s->maps);
    free(s->grad);
    free(s);
}

const float *step_last_gradient(const Step *s) { return s->grad; }

int step_plan(const Step *s, StepPlan *out) {
    const Pipeline *p = s->pipeline;
    *out = (StepPlan){.activations = s->net.held_bytes + s->net.shared_bytes + text_pass_bytes(s->net.text),
                      .packed_weights = s->net.backend->packed_bytes(s->net.backend),
                      .mapped_weights = weights_bytes(p->unet_weights) + weights_bytes(p->vae_weights) +
                                        weights_bytes(p->text_weights) + feature_maps_weight_bytes(s->maps),
                      .adapter_bytes = 4 * s->adapter->count * sizeof(float), /* value, gradient, two moments */
                      .host = s->candidates.bytes,
                      .chunk = s->net.chunk};
    out->total = out->activations + out->packed_weights + out->mapped_weights + out->adapter_bytes + out->host;
    return 0;
}

/* One prompt's share of the update, added to s->grad; a prompt whose scores say nothing adds nothing. */
static int learn_from(Step *s, const Prompt *prompt, int slot, int prompts, long number, NoiseSource *noise,
                      RewardSet *rewards, StepStats *stats, Error *err) {
    const StepOptions *o = &s->options;
    Networks *net = &s->net;
    Candidates *c = &s->candidates;
    PhaseClock clock = phase_start(stats);
    const float *text;

    TRY(text_pass_encode(net->text, prompt->text, &text, NULL, err));
    phase_end(&clock, PHASE_TEXT);
    TRY(noise_candidates(noise, number, slot, prompts, c->count, c->noise, err));
    TRY(generate_candidates(net->policy, text, c, err));
    phase_end(&clock, PHASE_GENERATE);
    TRY(statistics_check_latents(c, prompt, err));
    TRY(decode_pass_run(net->decode, c->latents, c->count, c->rgb, err));
    phase_end(&clock, PHASE_DECODE);
    Pictures pictures = {c->rgb, c->count, c->height, c->width};
    TRY(reward_set_score(rewards, prompt, &pictures, c->raw, c->score, err));
    TRY(select_candidates(c->score, c->count, o->positives, o->negatives, o->min_spread, &c->selection, err));
    statistics_add_rewards(stats, c, rewards->count);
    phase_end(&clock, PHASE_REWARD);
    if (c->selection.skip) {
        stats->prompts_skipped++;
        return 0;
    }
    if (net->reference) TRY(generate_reference(net->reference, text, c, err));
    phase_end(&clock, PHASE_REFERENCE);
    LossOptions losses = {o->drift, o->mean_keys, o->threads};
    TRY(losses_gradient(s->maps, &losses, c, stats, err));
    phase_end(&clock, PHASE_FEATURES);
    TRY(generate_gradient(net->policy, text, c, net->held, s->grad, err));
    phase_end(&clock, PHASE_BACKWARD);
    stats->prompts_used++;
    return 0;
}

int step_gradient(Step *s, const Prompt *prompts, int n, long number, NoiseSource *noise, RewardSet *rewards,
                  float *grad, StepStats *stats, Error *err) {
    memset(stats, 0, sizeof *stats);
    memset(s->grad, 0, s->adapter->count * sizeof(float));
    for (int i = 0; i < n; i++) TRY(learn_from(s, &prompts[i], i, n, number, noise, rewards, stats, err));
    statistics_finish(stats, n);
    float share = stats->prompts_used ? 1.0f / (float)stats->prompts_used : 0;
    for (size_t i = 0; i < s->adapter->count; i++) s->grad[i] *= share;
    for (size_t i = 0; grad && i < s->adapter->count; i++) grad[i] += s->grad[i];
    return 0;
}

static void refresh_adapter(Step *s) {
    Backend *b = s->net.backend;
    for (int i = 0; b->refresh && i < s->adapter->n_pair; i++) {
        b->refresh(b, &s->adapter->pair[i].a);
        b->refresh(b, &s->adapter->pair[i].b);
    }
}

int step_update(Step *s, const Prompt *prompts, int n, long number, NoiseSource *noise, RewardSet *rewards,
                Optimizer *o, StepStats *stats, Error *err) {
    TRY(step_gradient(s, prompts, n, number, noise, rewards, NULL, stats, err));
    PhaseClock clock = phase_start(stats);
    stats->lr = schedule_rate(o, o->step);
    if (stats->prompts_used == 0) {
        o->step++; /* the schedule goes on; no evidence, no change */
        return 0;
    }
    TRY(optimizer_update(o, s->adapter->values, s->grad, &stats->grad_norm, err));
    refresh_adapter(s);
    phase_end(&clock, PHASE_OPTIMIZER);
    return 0;
}
