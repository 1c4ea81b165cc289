/* CLIP models against transformers, in both namings; full-size shapes; strict loading; the gradient of the pixels. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "engine/autodiff.h"
#include "engine/plan.h"
#include "format/safetensors.h"
#include "model/clip_pass.h"

#define GOLDEN SOURCE_DIR "/tests/golden"
#define TOKENIZER SOURCE_DIR "/tests/fixtures/tiny-turbo"

static const char *const prompts[] = {"a photo of a red circle", "a photo of four moons"};

typedef struct Case {
    const char *folder, *path;
    CropRule crop;
} Case;

static const Case cases[] = {
    {GOLDEN "/clip_model", GOLDEN "/clip_model", CROP_FLOOR},
    {GOLDEN "/clip_openclip", GOLDEN "/clip_openclip/weights.pt", CROP_ROUND},
};

typedef struct Opened {
    ClipModel model;
    PictureRule rule;
    SafeFile *io;
    Backend *backend;
    ClipPass *pass;
    Error err;
} Opened;

static void open_case(Opened *o, const Case *c, bool reference) {
    *o = (Opened){.rule = picture_rule_clip};
    assert_ok(clip_open(&(ClipChoice){c->path, TOKENIZER, "", true, "x/y"}, &o->model, &o->err), o->err);
    o->rule.size = o->model.config.vision.image;
    o->rule.crop = c->crop;
    o->backend = reference ? backend_ref_new(&o->err) : backend_cpu_new(2, &o->err);
    assert_non_null(o->backend);
    assert_ok(clip_pass_new(&o->model, o->backend, &o->rule, &o->pass, &o->err), o->err);
    assert_ok(safetensors_open(in_dir(c->folder, "io.safetensors"), &o->io, &o->err), o->err);
}

static void close_case(Opened *o) {
    clip_pass_free(o->pass);
    backend_free(o->backend);
    clip_close(&o->model);
    safetensors_close(o->io);
}

static const SafeTensor *tensor(const Opened *o, const char *name) {
    const SafeTensor *t = safetensors_find(o->io, name);
    if (!t) fail_msg("no %s", name);
    return t;
}

static void assert_near(const float *x, const float *y, size_t n, double tolerance, const char *what) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        size += (double)y[i] * y[i];
    }
    if (!(sqrt(difference / size) <= tolerance)) fail_msg("%s differs by %.3g", what, sqrt(difference / size));
}

static uint8_t *pictures_of(const Opened *o, int *height, int *width) {
    const SafeTensor *t = tensor(o, "input.pictures");
    const int32_t *value = t->data;
    uint8_t *rgb = malloc(t->bytes / 4);
    for (size_t i = 0; i < t->bytes / 4; i++) rgb[i] = (uint8_t)value[i];
    *height = (int)t->dim[1];
    *width = (int)t->dim[2];
    return rgb;
}

static void embeddings_are_those_of_transformers(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        Opened o;
        int height, width;
        open_case(&o, &cases[i / 2], i % 2);
        const double tolerance = i % 2 ? 3e-7 : 1e-5;
        const size_t p = (size_t)o.model.config.projection;
        assert_int_equal(p, 20);
        assert_true(fabsf(o.model.scale - 100) < 0.1f);
        for (int k = 0; k < 3; k++) { /* the third comes from memory */
            const float *text, *wanted = tensor(&o, "output.text")->data;
            assert_ok(clip_pass_text(o.pass, prompts[k % 2], &text, &o.err), o.err);
            assert_near(text, wanted + (size_t)(k % 2) * p, p, tolerance, "text");
        }
        uint8_t *rgb = pictures_of(&o, &height, &width);
        float got[2 * 20];
        const float *wanted = tensor(&o, "output.image")->data;
        assert_ok(clip_pass_pictures(o.pass, rgb, 2, height, width, got, &o.err), o.err);
        assert_near(got, wanted, 2 * p, tolerance, "image");
        assert_ok(clip_pass_pictures(o.pass, rgb + height * width * 3, 1, height, width, got, &o.err), o.err);
        assert_near(got, wanted + p, p, tolerance, "image alone");
        free(rgb);
        close_case(&o);
    }
}

/* More pictures than a batch: whichever place one has, it gets the same embedding. */
static void batches_do_not_matter(void **state) {
    (void)state;
    Opened o;
    int height, width;
    open_case(&o, &cases[0], false);
    const size_t p = (size_t)o.model.config.projection;
    enum { MANY = CLIP_BATCH + 3 };
    uint8_t *two = pictures_of(&o, &height, &width);
    const size_t bytes = (size_t)(height * width * 3);
    uint8_t *rgb = malloc(MANY * bytes);
    float *got = malloc(MANY * p * sizeof *got);
    for (int i = 0; i < MANY; i++) memcpy(rgb + (size_t)i * bytes, two + (size_t)(i % 2) * bytes, bytes);
    assert_ok(clip_pass_pictures(o.pass, rgb, MANY, height, width, got, &o.err), o.err);
    const float *wanted = tensor(&o, "output.image")->data;
    for (size_t i = 0; i < MANY; i++) assert_near(got + i * p, wanted + i % 2 * p, p, 1e-5, "image");
    free(two);
    free(rgb);
    free(got);
    close_case(&o);
}

/* d(cosine with the first prompt)/d(embedding), in double. */
static double cosine(const float *text, const float *image, size_t n, float *gradient) {
    double tt = 0, ii = 0, ti = 0;
    for (size_t k = 0; k < n; k++) {
        tt += (double)text[k] * text[k];
        ii += (double)image[k] * image[k];
        ti += (double)text[k] * image[k];
    }
    const double score = ti / sqrt(tt * ii);
    for (size_t k = 0; k < n; k++) gradient[k] = (float)(text[k] / sqrt(tt * ii) - score * image[k] / ii);
    return score;
}

static void gradients_are_those_of_autograd(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        Opened o;
        open_case(&o, &cases[i / 2], i % 2);
        const SafeTensor *image = tensor(&o, "input.image"), *wanted = tensor(&o, "output.pixels.gradient");
        const float *scores = tensor(&o, "output.pixels.score")->data, *text;
        const int height = (int)image->dim[2], width = (int)image->dim[3];
        const size_t one = (size_t)(3 * height * width), p = (size_t)o.model.config.projection;
        float embedding[20], seed[20], *gradient = malloc(one * sizeof *gradient);
        assert_fails(clip_pass_pixels_gradient(o.pass, seed, gradient, &o.err), DRPO_E_INTERNAL, "before", o.err);
        assert_ok(clip_pass_text(o.pass, prompts[0], &text, &o.err), o.err);
        for (size_t k = 0; k < 2; k++) {
            const float *x = (const float *)image->data + k * one;
            assert_ok(clip_pass_pixels(o.pass, x, height, width, embedding, &o.err), o.err);
            assert_true(fabs(cosine(text, embedding, p, seed) - (double)scores[k]) < 2e-6);
            assert_ok(clip_pass_pixels_gradient(o.pass, seed, gradient, &o.err), o.err);
            assert_near(gradient, (const float *)wanted->data + k * one, one, i % 2 ? 1e-6 : 2e-5, "gradient");
        }
        free(gradient);
        close_case(&o);
    }
}

/* ---- full size, without values ---- */

typedef struct List {
    Arena *arena;
    SafeTensor *tensor;
    size_t n;
    double numbers;
} List;

static void add_tensor(List *l, const char *name, int64_t a, int64_t b) {
    SafeTensor *t = &l->tensor[l->n++];
    *t = (SafeTensor){.name = arena_strdup(l->arena, name), .dtype = DT_F16, .rank = b ? 2 : 1, .dim = {a, b}};
    l->numbers += (double)a * (double)(b ? b : 1);
}

static void add_pair(List *l, const char *prefix, const char *name, int64_t out, int64_t in) {
    add_tensor(l, arena_printf(l->arena, "%s%s.weight", prefix, name), out, in);
    add_tensor(l, arena_printf(l->arena, "%s%s.bias", prefix, name), out, 0);
}

/* One block of width w, in either naming. */
static void add_block(List *l, const char *prefix, int64_t w, bool openclip) {
    static const char *const parts[] = {"q", "k", "v", "out"};
    add_pair(l, prefix, openclip ? "ln_1" : "layer_norm1", w, 0);
    add_pair(l, prefix, openclip ? "ln_2" : "layer_norm2", w, 0);
    add_pair(l, prefix, openclip ? "mlp.c_fc" : "mlp.fc1", 4 * w, w);
    add_pair(l, prefix, openclip ? "mlp.c_proj" : "mlp.fc2", w, 4 * w);
    if (openclip) {
        add_tensor(l, arena_printf(l->arena, "%sattn.in_proj_weight", prefix), 3 * w, w);
        add_tensor(l, arena_printf(l->arena, "%sattn.in_proj_bias", prefix), 3 * w, 0);
        add_pair(l, prefix, "attn.out_proj", w, w);
    }
    for (int i = 0; !openclip && i < 4; i++)
        add_pair(l, prefix, arena_printf(l->arena, "self_attn.%s_proj", parts[i]), w, w);
}

/* Names and shapes as published: text width t, layers; vision width v, layers; embeddings of e numbers. */
static List make_list(int64_t t, int text_layers, int64_t v, int layers, int64_t e, bool openclip) {
    List l = {.arena = arena_new()};
    l.tensor = arena_alloc(l.arena, 2000 * sizeof *l.tensor);
    for (int i = 0; i < text_layers; i++)
        add_block(&l,
                  arena_printf(l.arena, openclip ? "transformer.resblocks.%d." : "text_model.encoder.layers.%d.", i), t,
                  openclip);
    for (int i = 0; i < layers; i++)
        add_block(
            &l,
            arena_printf(l.arena, openclip ? "visual.transformer.resblocks.%d." : "vision_model.encoder.layers.%d.", i),
            v, openclip);
    add_tensor(&l, openclip ? "token_embedding.weight" : "text_model.embeddings.token_embedding.weight", 49408, t);
    add_tensor(&l, openclip ? "positional_embedding" : "text_model.embeddings.position_embedding.weight", 77, t);
    add_pair(&l, "", openclip ? "ln_final" : "text_model.final_layer_norm", t, 0);
    add_tensor(&l, openclip ? "text_projection" : "text_projection.weight", openclip ? t : e, openclip ? e : t);
    add_tensor(&l, openclip ? "visual.class_embedding" : "vision_model.embeddings.class_embedding", v, 0);
    add_tensor(&l, openclip ? "visual.positional_embedding" : "vision_model.embeddings.position_embedding.weight", 257,
               v);
    add_pair(&l, "", openclip ? "visual.ln_pre" : "vision_model.pre_layrnorm", v, 0);
    add_pair(&l, "", openclip ? "visual.ln_post" : "vision_model.post_layernorm", v, 0);
    add_tensor(&l, openclip ? "visual.proj" : "visual_projection.weight", openclip ? v : e, openclip ? e : v);
    add_tensor(&l, openclip ? "visual.conv1.weight" : "vision_model.embeddings.patch_embedding.weight", v, 3);
    SafeTensor *conv = &l.tensor[l.n - 1];
    conv->rank = 4, conv->dim[2] = conv->dim[3] = 14;
    l.numbers += (double)v * 3 * 195;
    l.tensor[l.n++] = (SafeTensor){.name = "logit_scale", .dtype = DT_F16};
    l.numbers += 1;
    return l;
}

static int check_list(const List *l, const ClipConfig *c, Error *err) {
    Weights *w = NULL;
    WeightsParts parts = {.path = "list", .tensor = l->tensor, .count = l->n, .arena = l->arena};
    assert_ok(weights_from(&parts, 0, &w, err), *err);
    const int code = clip_check(w, c, err);
    weights_free(w); /* the arena too */
    return code;
}

static void full_sizes_have_the_published_tensors(void **state) {
    (void)state;
    static const struct {
        int t, text_layers, v, layers, e;
        size_t tensors;
        double numbers;
        Act act;
    } sizes[] = {{768, 12, 1024, 24, 768, 590, 427616513, ACT_QUICK_GELU},
                 {1024, 24, 1280, 32, 1024, 910, 986109441, ACT_GELU}};
    for (int i = 0; i < 2; i++) {
        Error err = {0};
        ClipConfig c;
        List l = make_list(sizes[i].t, sizes[i].text_layers, sizes[i].v, sizes[i].layers, sizes[i].e, false);
        assert_int_equal(l.n, sizes[i].tensors);
        assert_true(l.numbers == sizes[i].numbers);
        assert_ok(clip_config_published("f", sizes[i].t, sizes[i].v, false, "", &c, &err), err);
        assert_int_equal(c.vision.act, sizes[i].act);
        assert_ok(check_list(&l, &c, &err), err);
        for (int wrong = 0; wrong < 2; wrong++) { /* one tensor less, one more */
            l = make_list(sizes[i].t, sizes[i].text_layers, sizes[i].v, sizes[i].layers, sizes[i].e, false);
            if (wrong)
                add_tensor(&l, "vision_model.extra", 1, 0);
            else
                l.n--;
            assert_fails(check_list(&l, &c, &err), DRPO_E_INPUT,
                         wrong ? "'vision_model.extra'" : "'logit_scale' [] is missing", err);
        }
    }
}

/* The gradient of a picture through all 32 blocks of ViT-H/14: what is kept of them stays under a gigabyte. */
static void the_largest_gradient_fits(void **state) {
    (void)state;
    Error err = {0};
    ClipConfig c;
    Weights *w = NULL;
    List l = make_list(1024, 24, 1280, 32, 1024, false);
    WeightsParts parts = {.path = "list", .tensor = l.tensor, .count = l.n, .arena = l.arena};
    assert_ok(weights_from(&parts, 0, &w, &err), err);
    assert_ok(clip_config_published("f", 1024, 1280, false, "", &c, &err), err);
    Arena *a = arena_new();
    Build b = {.g = graph_new(a), .weights = w};
    Backend *backend = backend_cpu_new(2, &err);
    Value pixels = input(b.g, "pixels", DT_F32, shape4(1, 3, 224, 224)), gradient = NULL;
    Value embedding = output(b.g, clip_vision_build(&b, &c.vision, c.projection, pixels), "embedding");
    Value seed = input(b.g, "seed", DT_F32, shape2(1, 1024));
    size_t peak = 0;
    assert_ok(graph_check(b.g, &err), err);
    assert_ok(fuse_graph(b.g, &err), err);
    assert_ok(graph_backward(b.g, &embedding, &seed, 1, &pixels, 1, &gradient, &err), err);
    assert_ok(recompute_graph(b.g, backend, CLIP_GRADIENT_BYTES, &peak, &err), err);
    assert_true(peak > 0 && peak <= CLIP_GRADIENT_BYTES);
    backend_free(backend);
    arena_free(a);
    weights_free(w);
}

/* A safetensors file of these tensors whose data is a hole: all zeros, and no room taken. */
static void put_hollow(const char *path, const List *l) {
    char *header = arena_alloc(l->arena, l->n * 256);
    size_t length = 0, at = 0;
    for (size_t i = 0; i < l->n; i++) {
        const SafeTensor *t = &l->tensor[i];
        size_t bytes = 2;
        length += (size_t)sprintf(header + length, "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[", i ? "," : "{", t->name);
        for (int k = 0; k < t->rank; k++) {
            length += (size_t)sprintf(header + length, "%s%d", k ? "," : "", (int)t->dim[k]);
            bytes *= (size_t)t->dim[k];
        }
        length += (size_t)sprintf(header + length, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    header[length++] = '}';
    const uint64_t size = length;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&size, 8, 1, f) + fwrite(header, length, 1, f), 2);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)(8 + length + at)), 0);
}

/* A checkpoint of the full size without a config.json is known by its shapes. */
static void a_file_alone_is_recognised(void **state) {
    (void)state;
    char dir[512];
    Error err = {0};
    const char *path = in_dir(fresh_dir("clip_alone", dir), "weights.safetensors");
    ClipModel m;
    for (int openclip = 0; openclip < 2; openclip++) {
        List l = make_list(768, 12, 1024, 24, 768, openclip);
        put_hollow(path, &l);
        arena_free(l.arena);
        ClipChoice choice = {path, TOKENIZER, openclip ? "gelu" : "", true, "x/y"};
        assert_ok(clip_open(&choice, &m, &err), err);
        assert_int_equal(m.config.vision.act, openclip ? ACT_GELU : ACT_QUICK_GELU);
        assert_int_equal(m.config.vision.heads, 16);
        assert_true(m.scale == 1);
        clip_close(&m);
        choice.activation = "";
        if (openclip) assert_fails(clip_open(&choice, &m, &err), DRPO_E_INPUT, "two activations", err);
    }
    assert_ok(dir_remove(dir, &err), err);
}

static void what_is_no_clip_is_refused(void **state) {
    (void)state;
    Error err = {0};
    char dir[512];
    ClipModel m;
    fresh_dir("clip_refused", dir);
    assert_fails(clip_open(&(ClipChoice){in_dir(dir, "no"), "", "", true, "x/y"}, &m, &err), DRPO_E_INPUT,
                 "hf download x/y", err);
    assert_fails(clip_open(&(ClipChoice){dir, "", "", true, "x/y"}, &m, &err), DRPO_E_INPUT, "no model.safetensors",
                 err);
    assert_fails(clip_open(&(ClipChoice){GOLDEN "/torch_pickle/plain.pt", "", "", true, "x/y"}, &m, &err), DRPO_E_INPUT,
                 "no CLIP model", err);
    assert_fails(clip_open(&(ClipChoice){GOLDEN "/clip_model", dir, "", true, "x/y"}, &m, &err), DRPO_E_INPUT,
                 "no tokenizer", err);
    put_text(in_dir(dir, "config.json"), "{\"model_type\": \"clip\", \"vision_config\": {}}");
    ClipConfig c;
    assert_fails(clip_config_read(in_dir(dir, "config.json"), &c, &err), DRPO_E_INPUT, "no text_config", err);
    assert_fails(clip_config_published("f", 512, 768, false, "", &c, &err), DRPO_E_INPUT, "widths 512 and 768", err);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embeddings_are_those_of_transformers),
        cmocka_unit_test(batches_do_not_matter),
        cmocka_unit_test(gradients_are_those_of_autograd),
        cmocka_unit_test(full_sizes_have_the_published_tensors),
        cmocka_unit_test(the_largest_gradient_fits),
        cmocka_unit_test(a_file_alone_is_recognised),
        cmocka_unit_test(what_is_no_clip_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
