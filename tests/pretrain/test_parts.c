/* The parts that pretraining learns before the UNet: their gradients against differences of their losses, a loss that
 * was written down again, classes of captions, and that they learn. */
#include <math.h>
#include <stdlib.h>

#include "check.h"
#include "format/safetensors.h"
#include "model/pipeline.h"
#include "pretrain/autoencoder.h"
#include "pretrain/text.h"

#define MODEL SOURCE_DIR "/assets/tiny-turbo"

static const char *const lines =
    "{\"tag\": \"single_object\", \"include\": [{\"class\": \"star\", \"count\": 1}], \"exclude\": [], \"prompt\": \"a "
    "photo of a star\"}\n"
    "{\"tag\": \"counting\", \"include\": [{\"class\": \"circle\", \"count\": 3}], \"exclude\": [{\"class\": "
    "\"circle\", "
    "\"count\": 4}], \"prompt\": \"a photo of three circles\"}\n"
    "{\"tag\": \"colors\", \"include\": [{\"class\": \"moon\", \"count\": 1, \"color\": \"blue\"}], \"exclude\": [], "
    "\"prompt\": \"a photo of a blue moon\"}\n"
    "{\"tag\": \"two_object\", \"include\": [{\"class\": \"ring\", \"count\": 1}, {\"class\": \"moon\", \"count\": "
    "1}], "
    "\"exclude\": [], \"prompt\": \"a photo of a ring and a moon\"}\n"
    "{\"tag\": \"position\", \"include\": [{\"class\": \"star\", \"count\": 1}, {\"class\": \"moon\", \"count\": 1, "
    "\"position\": [\"above\", 0]}], \"exclude\": [], \"prompt\": \"a photo of a moon above a star\"}\n"
    "{\"tag\": \"color_attr\", \"include\": [{\"class\": \"star\", \"count\": 1, \"color\": \"red\"}, {\"class\": "
    "\"ring\", \"count\": 1, \"color\": \"green\"}], \"exclude\": [], \"prompt\": \"a photo of a red star and a green "
    "ring\"}\n";

typedef struct World {
    Pipeline *pipeline;
    Captions captions;
} World;

static int open_world(void **state) {
    static World w;
    Error err = {0};
    char folder[512];
    const char *path = in_dir(fresh_dir("parts", folder), "captions.jsonl");
    put_text(path, lines);
    assert_ok(pipeline_open(MODEL, &w.pipeline, &err), err);
    assert_ok(captions_open(&w.captions, path, 5, &err), err);
    *state = &w;
    return 0;
}

static int close_world(void **state) {
    World *w = *state;
    captions_close(&w->captions);
    pipeline_free(w->pipeline);
    return 0;
}

/* ---- gradients ---- */
typedef double Loss(void *what); /* of the present weights; its gradient comes into part->grad */

static bool belongs(const char *name, const char *group) { return strncmp(name, group, strlen(group)) == 0; }

/* Along the gradient of a group of tensors: (loss(w + h g) - loss(w - h g)) / 2h = |g|^2. */
static void check_group(Part *p, const char *group, Loss *loss, void *what) {
    const size_t n = p->weights->count;
    float *direction = calloc(n, sizeof *direction), *kept = malloc(n * sizeof *kept);
    double squares = 0, side[2];
    memset(p->grad, 0, n * sizeof *p->grad);
    loss(what);
    for (size_t i = 0; i < weights_count(p->weights->full); i++) {
        const SafeTensor *t = weights_at(p->weights->full, i);
        const size_t first = (size_t)((const float *)t->data - p->weights->values), size = t->bytes / sizeof(float);
        if (belongs(t->name, group)) memcpy(direction + first, p->grad + first, size * sizeof *direction);
    }
    for (size_t i = 0; i < n; i++) squares += (double)direction[i] * (double)direction[i];
    if (!(squares > 0)) fail_msg("no gradient in %s", group);
    const double h = 2e-3 / squares;
    memcpy(kept, p->weights->values, n * sizeof *kept);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < n; i++) p->weights->values[i] = kept[i] + (float)((s ? -h : h) * (double)direction[i]);
        side[s] = loss(what);
    }
    memcpy(p->weights->values, kept, n * sizeof *kept);
    const double slope = (side[0] - side[1]) / (2 * h);
    if (!(fabs(slope - squares) < 0.01 * squares)) fail_msg("%s: slope %g, |gradient|^2 %g", group, slope, squares);
    free(direction);
    free(kept);
}

static double autoencoder_loss(void *what) {
    Error err = {0};
    double loss;
    assert_ok(autoencoder_learn(what, &loss, &err), err);
    return loss;
}

static double text_loss(void *what) {
    Error err = {0};
    double loss, right;
    assert_ok(text_training_learn(what, &loss, &right, &err), err);
    return loss;
}

/* The loss of autoencoder.h from what the networks gave, in the order of its terms. */
static double written_down(const Autoencoder *a) {
    const int side = SCENE_SIDE, planes = (int)(a->pixels / (size_t)(side * side)), one = 4 * 16 * 16;
    double near = 0, edges = 0, kl = 0;
    for (int p = 0; p < planes; p++)
        for (int v = 0; v < side; v++)
            for (int u = 0; u < side; u++) {
                const float *x = a->picture + (p * side + v) * side + u, *y = a->y + (p * side + v) * side + u;
                const double d = (double)*y - (double)*x;
                near += (fabs(d) + 2 * d * d) / (double)a->pixels;
                if (u + 1 < side) edges += fabs((double)y[1] - (double)y[0] - ((double)x[1] - (double)x[0]));
                if (v + 1 < side) edges += fabs((double)y[side] - (double)y[0] - ((double)x[side] - (double)x[0]));
            }
    for (size_t i = 0; i < a->latents; i++) {
        const float *mean = a->moments + i / (size_t)one * 2 * (size_t)one + i % (size_t)one;
        const double logvar = (double)mean[one];
        kl += .5 * ((double)mean[0] * (double)mean[0] + exp(logvar) - 1 - logvar) / (double)a->latents;
    }
    return near + .5 * edges / (planes * side * (side - 1)) + 1e-3 * kl;
}

static void autoencoder_follows_its_loss(void **state) {
    World *w = *state;
    static const char *const groups[] = {"encoder.conv_in", "encoder.down_blocks", "encoder.mid_block", "quant_conv",
                                         "post_quant_conv", "decoder.mid_block",   "decoder.up_blocks", "decoder.conv"};
    const PartOptions o = {.seed = 3, .threads = 1, .batch = 2, .steps = 4, .lr = 1e-3f};
    Autoencoder a;
    Error err = {0};
    assert_ok(autoencoder_open(&a, &w->pipeline->vae, w->pipeline->vae_weights, &o, &err), err);
    assert_ok(autoencoder_draw(&a, &w->captions, 0, &err), err);
    const double loss = autoencoder_loss(&a);
    assert_true(fabs(loss - written_down(&a)) < 1e-6 * loss);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) check_group(&a.part, groups[i], autoencoder_loss, &a);
    memset(a.part.grad, 0, a.part.weights->count * sizeof *a.part.grad);
    for (int step = 0; step < 4; step++) {
        autoencoder_loss(&a);
        assert_ok(part_update(&a.part, &err), err);
    }
    assert_true(autoencoder_loss(&a) < loss);
    autoencoder_close(&a);
}

static void text_follows_its_loss(void **state) {
    World *w = *state;
    static const char *const groups[] = {"embeddings.token_embedding", "embeddings.position_embedding",
                                         "encoder.layers.0", "encoder.layers.1.self_attn", "final_layer_norm"};
    const PartOptions o = {.seed = 3, .threads = 1, .batch = 6, .steps = 60, .lr = 5e-3f};
    TextTraining t;
    Error err = {0};
    double loss, right = 0;
    assert_ok(text_training_open(&t, &w->pipeline->text, &o, &err), err);
    assert_ok(text_training_draw(&t, &w->captions, 0, &err), err);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) check_group(&t.part, groups[i], text_loss, &t);
    memset(t.part.grad, 0, t.part.weights->count * sizeof *t.part.grad);
    for (int step = 0; step < 60; step++) { /* six captions are soon known by heart */
        assert_ok(text_training_learn(&t, &loss, &right, &err), err);
        assert_ok(part_update(&t.part, &err), err);
    }
    if (right < 1) fail_msg("%g of the captions were learnt, loss %g", right, loss);
    text_training_close(&t);
}

/* ---- captions ---- */
static void captions_say_what_their_words_say(void **state) {
    const World *w = *state;
    int said[6][SCENE_ATTRIBUTES];
    for (int i = 0; i < 6; i++) {
        scene_attributes(w->captions.task[i], said[i]);
        for (int k = 0; k < SCENE_ATTRIBUTES; k++) assert_in_range(said[i][k], 0, scene_classes[k] - 1);
    }
    const int star = said[0][0], moon = said[2][0], ring = said[3][0];
    assert_true(star > 0 && moon > 0 && ring > 0 && star != moon && moon != ring && ring != star);
    assert_int_equal(said[0][5], 1);
    assert_int_equal(said[1][5], 3);
    for (int k = 1; k < 5; k++) assert_int_equal(said[0][k], 0);
    assert_true(said[2][2] > 0); /* blue */
    assert_int_equal(said[3][1], moon);
    assert_int_equal(said[4][0], moon); /* named first, though its metadata comes second */
    assert_int_equal(said[4][1], star);
    assert_true(said[4][4] > 0 && said[3][4] == 0);
    assert_true(said[5][2] > 0 && said[5][3] > 0 && said[5][2] != said[5][3]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(captions_say_what_their_words_say),
                                       cmocka_unit_test(autoencoder_follows_its_loss),
                                       cmocka_unit_test(text_follows_its_loss)};
    return cmocka_run_group_tests(tests, open_world, close_world);
}
