/* Step: one DrPO update, stage after stage.
 *
 *     prompt -> text -> noise -> generate -> decode -> reward -> select -> reference -> drift -> gradient -> optimize
 */
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "step/losses.h"
#include "step/method/method.h"
#include "step/statistics.h"
#include "step/step_internal.h"

/* What the options of the networks point at. */
typedef struct Builders {
    FeatureBuilder features, aside, given;
} Builders;

static int network_options(const Step *s, Builders *b, NetworksOptions *out, Error *err) {
    const StepOptions *o = &s->options;
    int size;
    TRY(pipeline_latent_side(s->pipeline, o->resolution, &size, err));
    *b = (Builders){.features = feature_maps_builder(s->maps, FEATURES_BEHIND),
                    .aside = feature_maps_builder(s->maps, FEATURES_ASIDE)};
    if (o->offline.mode != MODE_ONLINE) b->given = feature_maps_builder(s->maps, FEATURES_ALL);
    *out = (NetworksOptions){.rounds = o->pools.rounds,
                             .candidates = o->candidates,
                             .chunk = o->chunk,
                             .budget = o->memory_budget,
                             .height = size,
                             .width = size,
                             .released_x0 = o->released_x0,
                             .reference = o->offline.mode != MODE_SCENES && losses_need_reference(&o->drift, &o->learn),
                             .adapter = s->adapter,
                             .features = &b->features,
                             .aside = &b->aside,
                             .given = &b->given,
                             .differentiates = method_differentiates(&o->learn.method),
                             .small = s->small,
                             .redraws = o->learn.soft.objective == OBJECTIVE_BINARY && feature_maps_redraws(s->maps)};
    return 0;
}

/* Pictures of both decoders have the same size, and come from the same latents. */
static int open_small(Step *s, Error *err) {
    const Pipeline *p = s->pipeline;
    if (!s->options.reward_decoder) return 0;
    if (taesd_open(s->options.reward_decoder, &s->small, err) < 0) return fail_in(err, "--reward-decoder");
    const TaesdConfig *c = &s->small->config;
    if (c->latent_channels == p->latent_channels && taesd_factor(c) == p->factor) return 0;
    return fail(err, DRPO_E_INPUT,
                "--reward-decoder %s: makes %d pixels a side of a latent with %d channels, the model's own decoder %d "
                "of %d; take the one that was made for this model's VAE",
                s->options.reward_decoder, taesd_factor(c), c->latent_channels, p->factor, p->latent_channels);
}

static int open_workers(Step *s, Error *err) {
    const StepOptions *o = &s->options;
    Pipeline *p = s->pipeline;
    Builders builders;
    NetworksOptions n;
    int size;
    TRY(pipeline_latent_side(p, o->resolution, &size, err));
    const char *spec = o->learn.method.kind == METHOD_DRPO ? o->features : NULL; /* the others need none */
    TRY(feature_maps_open(spec, p, size, size, losses_need_latents(&o->drift, &o->learn), &s->maps, err));
    TRY(text_pass_new(p, s->backend, &s->text, err));
    TRY(open_small(s, err));
    TRY(network_options(s, &builders, &n, err));
    int threads = o->threads > 0 ? o->threads : threads_default(), prompts = o->prompts > 0 ? o->prompts : 1;
    s->cores = threads;
    if (o->at_once > 0) prompts = o->at_once < prompts ? o->at_once : prompts;
    TRY(workers_open(p, s->backend, &n, threads, o->at_once > 0, prompts, &s->workers, err));
    s->grad = calloc(s->adapter->count, sizeof(float));
    s->vgg_threshold = 1;
    s->norm = calloc((size_t)(o->prompts > 0 ? o->prompts : 1) * (size_t)o->candidates, sizeof *s->norm);
    return s->grad && s->norm ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

int step_new(Pipeline *p, Backend *b, Adapter *a, const StepOptions *o, Step **out, Error *err) {
    Step *s = calloc(1, sizeof *s);
    if (!s) return fail(err, DRPO_E_MEMORY, "out of memory");
    s->options = *o;
    s->adapter = a;
    s->pipeline = p;
    s->backend = b;
    int code = open_workers(s, err);
    if (code < 0) {
        step_free(s);
        return code;
    }
    *out = s;
    return 0;
}

void step_free(Step *s) {
    if (!s) return;
    workers_close(&s->workers);
    text_pass_free(s->text);
    feature_maps_close(s->maps);
    taesd_close(s->small);
    free(s->grad);
    free(s->norm);
    free(s);
}

void step_observe(Step *s, StepObserver observer, void *user) {
    s->observer = observer;
    s->user = user;
}

const float *step_last_gradient(const Step *s) { return s->grad; }
double step_method_state(const Step *s) { return s->vgg_threshold; }
void step_set_method_state(Step *s, double state) { s->vgg_threshold = state; }

/* The drift of the widest feature: its force for each radius, distances of samples to anchors. */
static size_t drift_bytes(const Candidates *c) {
    size_t most = 0, distances = (size_t)c->count * (size_t)(4 * c->count) * sizeof(double);
    for (int i = 0; i < c->features; i++) {
        const FeatureSet *f = &c->feature[i];
        size_t bytes = MAX_RADII / 2 * (size_t)c->count * (size_t)f->tokens * (size_t)f->dim * sizeof(float);
        if (bytes > most) most = bytes;
    }
    return most + distances;
}

void step_plan(const Step *s, StepPlan *out) {
    size_t adapter = s->adapter->count * sizeof(float);
    *out = (StepPlan){.mapped = feature_maps_in_place(s->maps, s->backend),
                      .records = adapter, /* the gradient */
                      .chunk = s->workers.worker[0].net.chunk,
                      .workers = s->workers.count};
    if (s->small) out->mapped += weights_in_place(s->small->weights, s->backend);
    for (int i = 0; i < s->workers.count; i++) {
        const Worker *w = &s->workers.worker[i];
        out->activations += w->net.held_bytes + w->net.shared_bytes;
        out->budgeted += generator_pass_bytes(w->net.policy);
        out->records +=
            adapter + drift_bytes(&w->candidates) + 4 * (size_t)w->candidates.height * (size_t)w->candidates.width * 3;
        out->per_candidate += w->candidates.bytes / (size_t)w->candidates.count;
    }
}

int step_measure(const Step *s, int chunk, size_t *bytes, Error *err) {
    Builders builders;
    NetworksOptions n;
    TRY(network_options(s, &builders, &n, err));
    n.chunk = chunk;
    return networks_measure(s->pipeline, s->backend, &n, bytes, err);
}

Scratch step_scratch(const Step *s) {
    const Networks *n = &s->workers.worker[0].net;
    if (n->held_bytes > n->shared_bytes) return (Scratch){n->held_memory, n->held_bytes};
    return (Scratch){n->shared_memory, n->shared_bytes};
}

int step_gradient(Step *s, const Prompt *prompts, int n, long number, NoiseSource *noise, RewardSet *rewards,
                  float *grad, StepStats *stats, Error *err) {
    memset(stats, 0, sizeof *stats);
    memset(s->grad, 0, s->adapter->count * sizeof(float));
    s->norms = 0;
    const int workers = n < s->workers.count ? n : s->workers.count;
    Round r = {s, prompts, n, number, noise, rewards, stats, PTHREAD_MUTEX_INITIALIZER, .err = err};
    error_clear(err);
    turns_open(&r.turns, s->cores < workers ? s->cores : workers);
    workers_run(&s->workers, workers, step_work, &r);
    turns_close(&r.turns);
    if (err->code < 0) return err->code;
    statistics_finish(stats, n);
    float share = stats->weight > 0 ? 1.0f / (float)stats->weight : 0;
    for (size_t i = 0; i < s->adapter->count; i++) s->grad[i] *= share;
    for (size_t i = 0; grad && i < s->adapter->count; i++) grad[i] += s->grad[i];
    return 0;
}

static void refresh_adapter(Step *s) {
    Backend *b = s->backend;
    for (int i = 0; b->refresh && i < lora_leaves(s->adapter); i++) b->refresh(b, lora_leaf(s->adapter, i).param);
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
    if (s->norms) s->vgg_threshold = statistics_quantile(s->norm, s->norms, s->options.learn.method.vgg_quantile);
    phase_end(&clock, PHASE_OPTIMIZER);
    return 0;
}
