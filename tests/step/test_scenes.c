/* What pretraining learns from: the drift toward scenes and the distance to them against double loops that follow the
 * equations; the gradient of a whole update against differences of its loss; an untrained UNet and its wires. */
#include <math.h>
#include <stdlib.h>

#include "gradient_gap.h"
#include "model/full_weights.h"
#include "model/unet_start.h"
#include "step/losses.h"
#include "step/optimize.h"

#define MODEL SOURCE_DIR "/assets/tiny-turbo"
static const char *const star = "{\"include\": [{\"class\": \"star\", \"count\": 1}], \"exclude\": []}";
static const char *const two =
    "{\"include\": [{\"class\": \"ring\", \"count\": 1}, {\"class\": \"moon\", \"count\": 1}], \"exclude\": []}";

/* ---- the drift, written down again ---- */
enum { K = 5, MOST = 4 * 64 };

static double distance(const float *a, const float *b, int d) {
    double sum = 0;
    for (int i = 0; i < d; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(fmax(sum, 1e-8));
}

typedef struct Set {
    const float *x, *target[3]; /* samples; samples as such, as repellers, attractors */
    double weight[3];
    int n, d;
} Set;

static double set_scale(const Set *s) {
    double sum = 0, weights = 0;
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < s->n; i++)
            for (int j = 0; j < s->n; j++)
                sum += s->weight[t] * distance(s->x + i * s->d, s->target[t] + j * s->d, s->d);
        weights += s->weight[t] / 3;
    }
    return fmax(sum / (3.0 * s->n * s->n) / fmax(weights, 1e-8), 1e-3);
}

/* A_ij of one radius, [n, 3n]; laplacian, diagonals of the first two blocks masked. */
static void affinities(const Set *s, double scale, double radius, double *a) {
    const int n = s->n, m = 3 * n;
    double *logit = malloc((size_t)(n * m) * sizeof *logit);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++) {
            const double d = distance(s->x + i * s->d, s->target[j / n] + j % n * s->d, s->d);
            logit[i * m + j] = (-d / scale - (j / n < 2 && i == j % n ? 100 : 0)) / radius;
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++) {
            double row = 0, column = 0;
            for (int k = 0; k < m; k++) row += exp(logit[i * m + k] - logit[i * m + j]);
            for (int k = 0; k < n; k++) column += exp(logit[k * m + j] - logit[i * m + j]);
            a[i * m + j] = sqrt(fmax(1 / row / column, 1e-6)) * s->weight[j / n];
        }
    free(logit);
}

static void add_force(const Set *s, double scale, double radius, double *force) {
    const int n = s->n, m = 3 * n;
    const double unit = fmax(scale / sqrt(s->d), 1e-3);
    double *a = malloc((size_t)(n * m) * sizeof *a), *f = calloc((size_t)(n * s->d), sizeof *f), squares = 0;
    affinities(s, scale, radius, a);
    for (int i = 0; i < n; i++) {
        double plus = 0, minus = 0;
        for (int j = 0; j < m; j++) *(j < 2 * n ? &minus : &plus) += a[i * m + j];
        for (int j = 0; j < m; j++) {
            const double c = j < 2 * n ? -a[i * m + j] * plus : a[i * m + j] * minus;
            for (int k = 0; k < s->d; k++)
                f[i * s->d + k] += c * ((double)s->target[j / n][j % n * s->d + k] - (double)s->x[i * s->d + k]) / unit;
        }
    }
    for (int i = 0; i < n * s->d; i++) squares += f[i] * f[i];
    for (int i = 0; i < n * s->d; i++) force[i] += f[i] / sqrt(fmax(squares / (n * s->d), 1e-8));
    free(a);
    free(f);
}

/* d(loss)/d(x) = lambda * -2 F / (n d unit) */
static void expected_gradient(const FeatureSet *f, const DriftOptions *o, float *out) {
    const Set s = {f->policy,
                   {f->policy, f->policy, f->reference},
                   {1, (double)o->w_ref_neg, (double)o->w_ref},
                   K * f->tokens,
                   f->dim};
    const double scale = set_scale(&s), unit = fmax(scale / sqrt(s.d), 1e-3);
    double force[MOST] = {0};
    assert_true(s.n * s.d <= MOST);
    for (int r = 0; r < o->n_radii; r++) add_force(&s, scale, (double)o->radii[r], force);
    for (int i = 0; i < s.n * s.d; i++) out[i] = (float)((double)o->lambda_ref * -2 * force[i] / (s.n * s.d * unit));
}

static float *numbers(uint32_t which, size_t n) {
    float *out = malloc(n * sizeof *out);
    rng_normal((RngKey){.seed = 3, .stream = RNG_TEST, .step = which}, out, n);
    return out;
}

static void drift_and_distance_are_their_equations(void **state) {
    (void)state;
    Error err = {0};
    Pipeline *pipeline;
    FeatureMaps *maps;
    assert_ok(pipeline_open(MODEL, &pipeline, &err), err);
    assert_ok(feature_maps_open("latent?keys=latent_mean_8", pipeline, 16, 16, true, &maps, &err), err);
    const LossOptions o = {.drift = {.radii = {0.1f, 0.5f},
                                     .n_radii = 2,
                                     .w_ref = 3000,
                                     .w_ref_neg = 2000,
                                     .lambda_ref = 0.3f,
                                     .latent_l2 = 0.7f},
                           .threads = 1,
                           .scenes = true};
    static Candidates c = {.count = K, .features = 2, .behind = 2};
    double score[K] = {0};
    const int size[2][2] = {{4, 4}, {8, 4}}; /* a key; the latents, which come last */
    float expected[MOST];
    c.score = score;
    for (int i = 0; i < 2; i++) {
        FeatureSet *f = &c.feature[i];
        *f = (FeatureSet){.tokens = size[i][0], .dim = size[i][1]};
        const size_t n = (size_t)(K * f->tokens * f->dim);
        f->policy = numbers(10 + (uint32_t)i, n);
        f->reference = numbers(20 + (uint32_t)i, n);
        f->grad = calloc(n, sizeof *f->grad);
    }
    StepStats stats = {0};
    assert_ok(losses_gradient(maps, &o, &c, &stats, &err), err);
    expected_gradient(&c.feature[0], &o.drift, expected);
    assert_true(difference(c.feature[0].grad, expected, K * 16) < 1e-5);
    const FeatureSet *latents = &c.feature[1];
    double squares = 0;
    for (int i = 0; i < K * 32; i++) {
        const double gap = (double)latents->policy[i] - (double)latents->reference[i];
        expected[i] = (float)(0.7 * 2 * gap / (K * 32));
        squares += gap * gap;
    }
    assert_true(difference(latents->grad, expected, K * 32) < 1e-5);
    assert_true(fabs(stats.latent_distance - sqrt(squares / (K * 32))) < 1e-6);
    for (int i = 0; i < 2; i++) free(c.feature[i].policy), free(c.feature[i].reference), free(c.feature[i].grad);
    feature_maps_close(maps);
    pipeline_free(pipeline);
}

/* ---- whole updates ---- */
static const Prompt prompts[2] = {{.text = "a photo of a star", .metadata = star},
                                  {.text = "a photo of a ring and a moon", .metadata = two}};

typedef struct World {
    Pipeline *pipeline;
    Backend *backend;
    Adapter *adapter;
    Step *step;
    NoiseSource *noise;
} World;

static void world_open(World *w, float drift, float pair) {
    Error err = {0};
    const StepOptions o = {.candidates = 3,
                           .positives = 1,
                           .negatives = 1,
                           .prompts = 2,
                           .threads = 1,
                           .features = "latent?keys=latent_mean_4",
                           .offline = {.mode = MODE_SCENES, .folder = "."},
                           .drift = {.radii = {0.3f},
                                     .n_radii = 1,
                                     .w_pos = 1,
                                     .w_ref = 3000,
                                     .w_ref_neg = 3000,
                                     .lambda_ref = drift,
                                     .latent_l2 = pair}};
    assert_ok(pipeline_open(MODEL, &w->pipeline, &err), err);
    w->backend = backend_cpu_new(1, &err);
    assert_ok(full_new(w->pipeline, &w->adapter, &err), err);
    assert_ok(unet_start(w->pipeline, w->adapter, 5, &err), err);
    assert_ok(step_new(w->pipeline, w->backend, w->adapter, &o, &w->step, &err), err);
    assert_ok(noise_open(NOISE_PHILOX, NULL, 9, 4 * 16 * 16, 0, &w->noise, &err), err);
}

static void world_close(World *w) {
    step_free(w->step);
    noise_close(w->noise);
    lora_free(w->adapter);
    backend_free(w->backend);
    pipeline_free(w->pipeline);
}

/* One prompt: the distance of several is the mean of roots, whose square is no loss. */
static double loss(World *w, const Prompt *prompt, float *grad) {
    static const RewardSet none;
    Error err = {0};
    StepStats stats;
    for (int i = 0; w->backend->refresh && i < lora_leaves(w->adapter); i++)
        w->backend->refresh(w->backend, lora_leaf(w->adapter, i).param);
    assert_ok(step_gradient(w->step, prompt, 1, 0, w->noise, (RewardSet *)&none, grad, &stats, &err), err);
    return stats.latent_distance * stats.latent_distance;
}

static void the_gradient_is_the_slope_of_the_loss(void **state) {
    (void)state;
    World w;
    world_open(&w, 0, 1);
    const size_t n = w.adapter->count;
    float *grad = calloc(n, sizeof *grad), *start = malloc(n * sizeof *start);
    memcpy(start, w.adapter->values, n * sizeof *start);
    const double here = loss(&w, &prompts[1], grad);
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (double)grad[i] * (double)grad[i];
    const double reach =
        0.1 * here / sqrt(squares); /* along the gradient; less would be lost in the last bits of most weights */
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < n; i++)
            w.adapter->values[i] = start[i] + (float)((k ? reach : -reach) * (double)grad[i] / sqrt(squares));
        side[k] = loss(&w, &prompts[1], NULL);
    }
    const double slope = (side[1] - side[0]) / (2 * reach);
    if (!(fabs(slope / sqrt(squares) - 1) < 0.02)) fail_msg("slope %g, gradient %g", slope, sqrt(squares));
    free(grad);
    free(start);
    world_close(&w);
}

/* Both terms learn: some updates with all of them bring the pictures nearer to their scenes. */
static void updates_come_nearer(void **state) {
    (void)state;
    World w;
    Error err = {0};
    Optimizer o = {.lr = 1e-3f, .beta1 = .9f, .beta2 = .98f, .eps = 1e-8f, .weight_decay = 1e-3f, .clip = 1};
    float *share;
    static const RewardSet none;
    StepStats first = {0}, last = {0};
    world_open(&w, 0.1f, 1);
    assert_ok(unet_start_shares(w.pipeline, w.adapter, &share, &err), err);
    assert_ok(optimizer_allocate(&o, w.adapter->count, &err), err);
    o.share = share;
    float *start = malloc(w.adapter->count * sizeof *start);
    memcpy(start, w.adapter->values, w.adapter->count * sizeof *start);
    for (int k = 0; k < 8; k++)
        assert_ok(step_update(w.step, prompts, 2, 0, w.noise, (RewardSet *)&none, &o, k ? &last : &first, &err), err);
    assert_int_equal(last.prompts_used, 2);
    assert_true(last.ref_loss > 0 && isnan(last.reward_mean));
    if (!(last.latent_distance < 0.95 * first.latent_distance))
        fail_msg("distance %g after %g", last.latent_distance, first.latent_distance);
    size_t wires = 0;
    for (size_t i = 0; i < w.adapter->count; i++) {
        if (share[i] == 0) wires++, assert_true(w.adapter->values[i] == start[i]);
    }
    assert_true(wires > 1000 && wires < w.adapter->count / 10);
    free(start);
    free(share);
    optimizer_free(&o);
    world_close(&w);
}

/* eps = z to a few thousandths at the start, so that x0 begins near 0 and follows from the seed. */
static void an_untrained_unet_passes_the_noise_on(void **state) {
    (void)state;
    Error err = {0};
    World w, other;
    Sampler *s;
    float noise[4 * 16 * 16], latents[4 * 16 * 16];
    world_open(&w, 0, 1);
    world_open(&other, 0, 1);
    assert_memory_equal(w.adapter->values, other.adapter->values, w.adapter->count * sizeof(float));
    assert_ok(unet_start(other.pipeline, other.adapter, 6, &err), err);
    assert_memory_not_equal(w.adapter->values, other.adapter->values, w.adapter->count * sizeof(float));
    assert_ok(sampler_new(w.pipeline, w.backend, w.adapter, 1, 0, false, &s, &err), err);
    rng_normal((RngKey){.seed = 1, .stream = RNG_TEST}, noise, 4 * 16 * 16);
    assert_ok(sampler_run(s, prompts[0].text, noise, 1, latents, NULL, &err), err);
    double squares = 0;
    for (int i = 0; i < 4 * 16 * 16; i++) squares += (double)latents[i] * (double)latents[i];
    const double size = sqrt(squares / (4 * 16 * 16));
    if (!(size > 0.001 && size < 1)) fail_msg("latents of size %g", size);
    sampler_free(s);
    world_close(&w);
    world_close(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drift_and_distance_are_their_equations),
        cmocka_unit_test(an_untrained_unet_passes_the_noise_on),
        cmocka_unit_test(the_gradient_is_the_slope_of_the_loss),
        cmocka_unit_test(updates_come_nearer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
