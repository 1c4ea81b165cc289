/* CLIPScore, PickScore, HPSv2 and the aesthetic predictor as rewards, against scores and gradients of PyTorch. */
#include "check.h"

#include <math.h>
#include <stdlib.h>

#include "format/safetensors.h"
#include "step/reward/reward.h"

#define GOLDEN SOURCE_DIR "/tests/golden"
#define TOKENIZER "?tokenizer=" SOURCE_DIR "/tests/fixtures/tiny-turbo"

static const char *const prompts[] = {"a photo of a red circle", "a photo of four moons"};

typedef struct Case {
    const char *spec, *golden, *score, *gradient_score, *gradient;
    float scale;
    bool texts;
} Case;

static const Case cases[] = {
    {"clipscore:" GOLDEN "/clip_model" TOKENIZER, GOLDEN "/clip_model", "score", "pixels.score", "pixels.gradient", 1,
     true},
    {"pickscore:" GOLDEN "/clip_model/model.safetensors" TOKENIZER "&scale=100&threads=1", GOLDEN "/clip_model",
     "score", "pixels.score", "pixels.gradient", 100, true},
    {"hpsv2:" GOLDEN "/clip_openclip/weights.pt" TOKENIZER "&threads=2", GOLDEN "/clip_openclip", "score",
     "pixels.score", "pixels.gradient", 1, true},
    {"aesthetic:" GOLDEN "/clip_model?head=" GOLDEN "/clip_model/head.pth", GOLDEN "/clip_model", "aesthetic",
     "pixels.aesthetic", "pixels.aesthetic_gradient", 1, false},
};

typedef struct Opened {
    SafeFile *io;
    Reward *reward;
    uint8_t *rgb;
    Pictures pictures;
    Error err;
} Opened;

static const SafeTensor *tensor(const Opened *o, const char *kind, const char *name) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", kind, name);
    const SafeTensor *t = safetensors_find(o->io, key);
    if (!t) fail_msg("no %s", key);
    return t;
}

static void open_case(Opened *o, const Case *c) {
    *o = (Opened){0};
    assert_ok(reward_open(c->spec, NULL, 0, &o->reward, &o->err), o->err);
    assert_ok(safetensors_open(in_dir(c->golden, "io.safetensors"), &o->io, &o->err), o->err);
    const SafeTensor *t = tensor(o, "input", "pictures");
    o->rgb = malloc(t->bytes / 4);
    for (size_t i = 0; i < t->bytes / 4; i++) o->rgb[i] = (uint8_t)((const int32_t *)t->data)[i];
    o->pictures = (Pictures){o->rgb, 2, (int)t->dim[1], (int)t->dim[2]};
}

static void close_case(Opened *o) {
    reward_close(o->reward);
    safetensors_close(o->io);
    free(o->rgb);
}

static void scores_are_those_of_pytorch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Opened o;
        open_case(&o, &cases[i]);
        assert_int_equal(o.reward->lanes, 1);
        const float *wanted = tensor(&o, "output", cases[i].score)->data;
        for (int k = 0; k < 4; k++) { /* both prompts, twice */
            Prompt prompt = {.text = prompts[k % 2]};
            float got[2];
            assert_ok(reward_score(o.reward, &prompt, &o.pictures, got, NULL, &o.err), o.err);
            for (int j = 0; j < 2; j++) {
                const float must = cases[i].scale * wanted[cases[i].texts ? k % 2 * 2 + j : j];
                if (!(fabsf(got[j] - must) <= 5e-6f * cases[i].scale))
                    fail_msg("%s: %.8f, not %.8f", cases[i].spec, (double)got[j], (double)must);
            }
        }
        close_case(&o);
    }
}

static void gradients_are_those_of_pytorch(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Opened o;
        open_case(&o, &cases[i]);
        const SafeTensor *images = tensor(&o, "input", "image"), *t = tensor(&o, "output", cases[i].gradient);
        const float *scores = tensor(&o, "output", cases[i].gradient_score)->data, *wanted = t->data;
        const size_t n = t->bytes / sizeof(float);
        float got[2], *gradient = malloc(t->bytes);
        Prompt prompt = {.text = prompts[0]};
        assert_non_null(o.reward->score_gradient);
        assert_ok(o.reward->score_gradient(o.reward, &prompt, images->data, 2, (int)images->dim[2], (int)images->dim[3],
                                           got, gradient, &o.err),
                  o.err);
        for (int j = 0; j < 2; j++) assert_true(fabsf(got[j] - cases[i].scale * scores[j]) <= 5e-6f * cases[i].scale);
        double difference = 0, size = 0;
        for (size_t k = 0; k < n; k++) {
            const double must = (double)cases[i].scale * wanted[k];
            difference += (gradient[k] - must) * (gradient[k] - must);
            size += must * must;
        }
        if (!(sqrt(difference / size) < 3e-5))
            fail_msg("%s: gradient off by %g", cases[i].spec, sqrt(difference / size));
        free(gradient);
        close_case(&o);
    }
}

static void wrong_files_are_named(void **state) {
    (void)state;
    static const struct {
        const char *spec, *part;
        int code;
    } wrong[] = {
        {"hpsv2:/nowhere/HPS_v2.1_compressed.pt", "hf download xswu/HPSv2", DRPO_E_INPUT},
        {"clipscore:" GOLDEN "/clip_model/head.pth", "is missing", DRPO_E_INPUT},
        {"clipscore:" GOLDEN "/clip_model?tokenizer=/nowhere", "no tokenizer", DRPO_E_INPUT},
        {"clipscore:" GOLDEN "/clip_model?activation=relu", "auto|gelu|quick_gelu", DRPO_E_USAGE},
        {"clipscore:" GOLDEN "/clip_model?head=x", "unknown option 'head'", DRPO_E_USAGE},
        {"aesthetic:" GOLDEN "/clip_model", "?head=", DRPO_E_USAGE},
        {"aesthetic:" GOLDEN "/clip_model?head=" GOLDEN "/clip_openclip/weights.pt", "layers.0.weight", DRPO_E_INPUT},
        {"aesthetic:" GOLDEN "/clip_model?head=" GOLDEN "/torch_pickle/legacy.pt", "", DRPO_E_INPUT},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error err = {0};
        Reward *r;
        assert_fails(reward_open(wrong[i].spec, NULL, 0, &r, &err), wrong[i].code, wrong[i].part, err);
        assert_null(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_those_of_pytorch),
        cmocka_unit_test(gradients_are_those_of_pytorch),
        cmocka_unit_test(wrong_files_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
