/* LoRA dropout: the branch of a layer and its gradient against plain double loops over masks written out by hand; whole
 * updates, whose candidates it leaves alone. */
#include <math.h>
#include <stdlib.h>

#include "engine/autodiff.h"
#include "engine/plan.h"
#include "gradient_gap.h"
#include "model/build.h"

/* ---- one layer ---- */
enum { ROWS = 3, TOKENS = 12, IN = 5, OUT = 4, RANK = 2, WIDTH = TOKENS * IN, ADAPTED = 2 };
static const double rate = 0.4;
static const float scale = 1.5f; /* alpha 3 over rank 2 */
static const RngKey key_of_row = {.seed = 0x123456789abcdef0, .stream = RNG_DROPOUT, .step = 3, .prompt = 1};

typedef struct Layer {
    Arena *arena;
    Weights *weights;
    Adapter *adapter;
    Graph *graph;
    Build build;
    Value x, y, seed, grad[2 * ADAPTED];
    float w[OUT * IN], x_values[ROWS * WIDTH], seed_values[ROWS * TOKENS * OUT];
} Layer;

static void draw(uint32_t which, float *out, size_t n) {
    rng_normal((RngKey){.seed = 11, .stream = RNG_TEST, .step = which}, out, n);
}

/* The second of two adapted layers, so that masks must know which layer they are for. */
static void layer_open(Layer *l, Backend *backend, Plan **plan) {
    Error err = {0};
    WeightsParts parts = {.path = "test", .arena = arena_new(), .count = 1};
    parts.tensor = arena_alloc(parts.arena, sizeof(SafeTensor));
    parts.tensor[0] = (SafeTensor){
        .name = "b.weight", .dtype = DT_F32, .rank = 2, .dim = {OUT, IN}, .data = l->w, .bytes = sizeof l->w};
    draw(1, l->w, OUT * IN);
    draw(2, l->x_values, ROWS * WIDTH);
    draw(3, l->seed_values, ROWS * TOKENS * OUT);
    assert_ok(weights_from(&parts, 0, &l->weights, &err), err);
    l->adapter = lora_new(RANK, 3, "a,b", &err);
    assert_ok(lora_register(l->adapter, "a", IN, OUT, &err), err);
    assert_ok(lora_register(l->adapter, "b", IN, OUT, &err), err);
    assert_ok(lora_allocate(l->adapter, &err), err);
    draw(4, l->adapter->values, l->adapter->count);
    l->arena = arena_new();
    l->graph = graph_new(l->arena);
    l->build = (Build){.g = l->graph, .weights = l->weights, .adapter = l->adapter, .dropout = (float)rate};
    l->x = input(l->graph, "x", DT_F32, shape3(ROWS, TOKENS, IN));
    l->y = output(l->graph, layer_linear(&l->build, l->x, OUT, false, "b"), "y");
    assert_ok(fuse_graph(l->graph, &err), err);
    Value leaf[2] = {param(l->graph, &l->adapter->pair[1].a), param(l->graph, &l->adapter->pair[1].b)};
    l->seed = input(l->graph, "seed", DT_F32, l->y->shape);
    assert_ok(graph_backward(l->graph, &l->y, &l->seed, 1, leaf, 2, l->grad, &err), err);
    assert_ok(plan_new(l->graph, backend, plan, &err), err);
    assert_ok(plan_bind(*plan, NULL, &err), err);
    int32_t keys[ROWS][DROPOUT_KEY];
    for (int r = 0; r < ROWS; r++) {
        const uint32_t row[DROPOUT_KEY] = {1, 0x9abcdef0, 0x12345678, 3, 1, (uint32_t)r};
        memcpy(keys[r], row, sizeof row);
    }
    plan_write(*plan, l->x, l->x_values);
    plan_write(*plan, l->seed, l->seed_values);
    plan_write(*plan, l->build.keys, keys);
}

/* x with dropped values 0 and the others divided by 1 - p; word i of the second layer is block (1 << 32) + i / 4. */
static void expected_input(const Layer *l, double out[ROWS * WIDTH]) {
    for (int r = 0; r < ROWS; r++) {
        RngKey key = key_of_row;
        uint32_t word[WIDTH];
        key.candidate = (uint32_t)r;
        rng_words(key, (uint64_t)1 << 32, word, WIDTH);
        for (int i = 0; i < WIDTH; i++) {
            const bool gone = word[i] < (double)(float)rate * 4294967296.0;
            out[r * WIDTH + i] = gone ? 0 : (double)l->x_values[r * WIDTH + i] / (1 - (double)(float)rate);
        }
    }
}

typedef struct Expected {
    double y[ROWS * TOKENS * OUT], a[RANK * IN], b[OUT * RANK];
} Expected;

static void expect(const Layer *l, Expected *e) {
    const LoraPair *p = &l->adapter->pair[1];
    const float *a = p->a.data, *b = p->b.data;
    double x[ROWS * WIDTH];
    memset(e, 0, sizeof *e);
    expected_input(l, x);
    for (int t = 0; t < ROWS * TOKENS; t++) {
        double low[RANK] = {0}, down[RANK] = {0};
        for (int k = 0; k < RANK; k++)
            for (int i = 0; i < IN; i++) low[k] += (double)a[k * IN + i] * x[t * IN + i];
        for (int o = 0; o < OUT; o++) {
            const double dy = (double)l->seed_values[t * OUT + o];
            for (int i = 0; i < IN; i++)
                e->y[t * OUT + o] += (double)l->w[o * IN + i] * (double)l->x_values[t * IN + i];
            for (int k = 0; k < RANK; k++) {
                e->y[t * OUT + o] += (double)scale * (double)b[o * RANK + k] * low[k];
                e->b[o * RANK + k] += (double)scale * dy * low[k];
                down[k] += (double)scale * dy * (double)b[o * RANK + k];
            }
        }
        for (int k = 0; k < RANK; k++)
            for (int i = 0; i < IN; i++) e->a[k * IN + i] += down[k] * x[t * IN + i];
    }
}

static void close_to(const Plan *p, Value v, const double *expected, size_t n, const char *what) {
    float got[ROWS * TOKENS * OUT];
    double gap = 0, size = 0;
    plan_read(p, v, got);
    for (size_t i = 0; i < n; i++) gap += pow((double)got[i] - expected[i], 2), size += expected[i] * expected[i];
    if (!(sqrt(gap / size) < 1e-5)) fail_msg("%s is off by %g", what, sqrt(gap / size));
}

static void a_layer_is_what_its_equation_says(void **state) {
    (void)state;
    for (int device = 0; device < 2; device++) {
        Error err = {0};
        Backend *backend = device ? backend_cpu_new(2, &err) : backend_ref_new(&err);
        Layer l = {0};
        Plan *plan;
        Expected e;
        layer_open(&l, backend, &plan);
        expect(&l, &e);
        assert_ok(plan_run(plan, &err), err);
        close_to(plan, l.y, e.y, ROWS * TOKENS * OUT, "the output");
        close_to(plan, l.grad[0], e.a, RANK * IN, "the gradient of A");
        close_to(plan, l.grad[1], e.b, OUT * RANK, "the gradient of B");
        plan_free(plan);
        arena_free(l.arena);
        weights_free(l.weights);
        lora_free(l.adapter);
        backend_free(backend);
    }
}

static void masks_have_their_rate_and_differ(void **state) {
    (void)state;
    enum { N = 40000 };
    static uint32_t one[N], other[N];
    int below = 0, both = 0;
    RngKey key = key_of_row;
    rng_words(key, 0, one, N);
    rng_words(key, (uint64_t)1 << 32, other, N); /* the next layer */
    for (int i = 0; i < N; i++)
        below += one[i] < rate * 0x1p32, both += one[i] < rate * 0x1p32 && other[i] < rate * 0x1p32;
    assert_true(fabs(below / (double)N - rate) < 0.01);
    assert_true(fabs(both / (double)N - rate * rate) < 0.01);
    key.candidate++;
    rng_words(key, 0, other, N);
    assert_memory_not_equal(one, other, sizeof one);
    rng_words(key, 3, one, 8); /* a block further on is the same block */
    assert_memory_equal(one, other + 12, 8 * sizeof *one);
}

/* ---- whole updates ---- */
enum { K = 5, PROMPTS = 2 };
static const Prompt prompts[PROMPTS] = {{.text = "a photo of a star"}, {.text = "a photo of a red circle"}};

static int redness(void *user, const char *prompt, const char *metadata, const uint8_t *rgb, int count, int height,
                   int width, float *scores) {
    (void)user, (void)prompt, (void)metadata;
    const int n = height * width;
    for (int i = 0; i < count; i++) {
        long sum = 0;
        for (int at = 0; at < n; at++) sum += rgb[(i * n + at) * 3] - rgb[(i * n + at) * 3 + 2];
        scores[i] = (float)sum / (float)n;
    }
    return 0;
}

typedef struct World {
    Pipeline *pipeline;
    Adapter *adapter;
    RewardSet rewards;
} World;

static void world_open(World *w) {
    Error err = {0};
    RewardCallback callback = {.name = "test", .fn = redness};
    const char *specs[] = {"callback:test"};
    assert_ok(pipeline_open(SOURCE_DIR "/assets/tiny-turbo", &w->pipeline, &err), err);
    w->adapter = lora_new(4, 4, "to_q,to_k,to_v,to_out.0,time_emb_proj", &err); /* text and time are shared */
    assert_ok(pipeline_register(w->pipeline, w->adapter, NULL, &err), err);
    assert_ok(lora_allocate(w->adapter, &err), err);
    draw(5, w->adapter->values, w->adapter->count);
    for (size_t i = 0; i < w->adapter->count; i++) w->adapter->values[i] *= 0.05f;
    assert_ok(reward_set_open(specs, 1, &callback, 1, &w->rewards, &err), err);
}

static void world_close(World *w) {
    reward_set_close(&w->rewards);
    lora_free(w->adapter);
    pipeline_free(w->pipeline);
}

static float *gradient(World *w, float dropout, int chunk, int threads, long number, StepStats *stats) {
    Error err = {0};
    Step *step = NULL;
    NoiseSource *noise = NULL;
    Backend *backend = backend_cpu_new(threads, &err);
    const StepOptions o = {.candidates = K,
                           .positives = 1,
                           .negatives = 1,
                           .chunk = chunk,
                           .threads = threads,
                           .prompts = PROMPTS,
                           .features = "latent?keys=latent_mean_8,latent_std_8",
                           .drift = {.radii = {0.2f}, .n_radii = 1, .w_pos = 3000, .w_neg = 3000}};
    float *grad = calloc(w->adapter->count, sizeof *grad);
    w->adapter->dropout = dropout;
    assert_ok(step_new(w->pipeline, backend, w->adapter, &o, &step, &err), err);
    assert_ok(noise_open(NOISE_PHILOX, NULL, 7, 4 * 16 * 16, 0, &noise, &err), err);
    assert_ok(step_gradient(step, prompts, PROMPTS, number, noise, &w->rewards, grad, stats, &err), err);
    noise_close(noise);
    step_free(step);
    backend_free(backend);
    return grad;
}

static void an_update_drops_the_same_whatever_the_chunks_and_threads(void **state) {
    (void)state;
    World w;
    StepStats stats;
    world_open(&w);
    float *whole = gradient(&w, 0.3f, 0, 1, 4, &stats);
    for (int chunk = 1; chunk <= 4; chunk += 3) { /* 4: the last chunk is padded */
        float *parts = gradient(&w, 0.3f, chunk, 1, 4, &stats);
        const double gap = difference(parts, whole, w.adapter->count);
        if (!(gap < 1e-6)) fail_msg("chunk %d: gradients differ by %g", chunk, gap);
        free(parts);
    }
    float *threads = gradient(&w, 0.3f, 0, 2, 4, &stats), *later = gradient(&w, 0.3f, 0, 1, 5, &stats);
    assert_memory_equal(whole, threads, w.adapter->count * sizeof *whole);
    assert_true(difference(later, whole, w.adapter->count) > 0.01);
    free(whole);
    free(threads);
    free(later);
    world_close(&w);
}

/* Candidates and their scores stay, to the byte; the gradient does not, but points nearly the same way. */
static void only_the_way_back_is_dropped(void **state) {
    (void)state;
    World w;
    StepStats plain, dropped;
    world_open(&w);
    float *without = gradient(&w, 0, 0, 1, 0, &plain), *with = gradient(&w, 0.1f, 0, 1, 0, &dropped);
    assert_memory_equal(&plain.reward_mean, &dropped.reward_mean, sizeof plain.reward_mean);
    assert_memory_equal(&plain.pref_loss, &dropped.pref_loss, sizeof plain.pref_loss);
    assert_memory_equal(&plain.diversity, &dropped.diversity, sizeof plain.diversity);
    const double gap = difference(with, without, w.adapter->count);
    if (!(gap > 0.01 && gap < 1)) fail_msg("gradients differ by %g", gap);
    free(without);
    free(with);
    world_close(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_is_what_its_equation_says),
        cmocka_unit_test(masks_have_their_rate_and_differ),
        cmocka_unit_test(an_update_drops_the_same_whatever_the_chunks_and_threads),
        cmocka_unit_test(only_the_way_back_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
