/* Pipeline: opens every component of a diffusers folder and builds each network once to nowhere, so that whatever is
 * missing, unused or unsupported is reported before any work is done. */
#include "model/pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "model/advice.h"
#include "model/component_config.h"

enum { RGB = 3, MAX_TRAIN_STEPS = 1 << 20, SOME_SIDE = 8 };

/* What the supported one-step schedules have in common; other values would sample differently from what is computed
 * here. */
static void require_text(const JsonReader *r, const char *key, const char *accepted, const char *missing) {
    char get[ADVICE_LENGTH];
    const char *value = json_get_string(r, key, missing);
    if (value && strcmp(value, accepted) != 0)
        fail(r->err, DRPO_E_INPUT, "%s: \"%s\" is \"%s\"; a one-step generator of this family has \"%s\"; get one: %s",
             r->where, key, value, accepted, repository_advice("stabilityai/sd-turbo", get));
}

/* sigma = sqrt((1 - abar) / abar) of the last training step, in float32 as diffusers computes its table. */
static float last_sigma(int steps, float first, float last) {
    float low = sqrtf(first), high = sqrtf(last), product = 1;
    for (int i = 0; i < steps; i++) {
        float root = steps > 1 ? low + (high - low) * (float)i / (float)(steps - 1) : low;
        product *= 1 - root * root;
    }
    return sqrtf((1 - product) / product);
}

/* Four-digit constants of the released trainer: alpha, sigma at t = 999 and at t = 0. */
static OneStep released_step(void) {
    const double alpha = 0.0683, sigma = 0.9977, alpha0 = 0.9996, sigma0 = 0.0292;
    return (OneStep){.timestep = 999,
                     .input_scale = 1,
                     .z_factor = (float)(alpha0 / alpha),
                     .eps_factor = (float)(alpha0 * sigma / alpha - sigma0)};
}

/* Stock pipeline, one trailing step: sample = sigma z, input sample / sqrt(sigma^2 + 1), x0 = sample - sigma eps. */
static int read_schedule(Pipeline *p, const char *document, Error *err) {
    const char *path;
    json_t *root;
    TRY(document_load(document, &root, &path, err));
    JsonReader r = {root, path, err};
    require_text(&r, "prediction_type", "epsilon", "epsilon");
    require_text(&r, "beta_schedule", "scaled_linear", "linear");
    require_text(&r, "timestep_spacing", "trailing", "linspace");
    int64_t steps = json_get_int(&r, "num_train_timesteps", 1000);
    float first = (float)json_get_number(&r, "beta_start", 0.0001), last = (float)json_get_number(&r, "beta_end", 0.02);
    if (json_get_bool(&r, "rescale_betas_zero_snr", false))
        fail(err, DRPO_E_INPUT, "%s: \"rescale_betas_zero_snr\" true is not supported", path);
    float sigma = steps < 1 || steps > MAX_TRAIN_STEPS ? NAN : last_sigma((int)steps, first, last);
    if (!(first > 0) || !(last < 1) || !isfinite(sigma) || !(sigma > 0))
        fail(err, DRPO_E_INPUT, "%s: \"num_train_timesteps\", \"beta_start\" or \"beta_end\" is out of range", path);
    int code = json_finish(&r);
    json_decref(root);
    TRY(code);
    p->stock = (OneStep){.timestep = (float)(steps - 1),
                         .input_scale = sigma / sqrtf(sigma * sigma + 1),
                         .z_factor = sigma,
                         .eps_factor = sigma};
    p->released = released_step();
    return 0;
}

static int check_index(const char *document, Error *err) {
    const char *path;
    json_t *root;
    TRY(document_load(document, &root, &path, err));
    JsonReader r = {root, path, err};
    char get[ADVICE_LENGTH];
    const char *class_name = json_get_string(&r, "_class_name", "");
    if (strcmp(class_name, "StableDiffusionPipeline") != 0)
        fail(err, DRPO_E_INPUT, "%s: \"_class_name\" is \"%s\"; supported: StableDiffusionPipeline; get one: %s", path,
             class_name, repository_advice("stabilityai/sd-turbo", get));
    int code = json_finish(&r);
    json_decref(root);
    return code;
}

/* Appends a component's whole network to a graph that is thrown away. */
typedef void (*Builder)(Pipeline *p, Build *b);

static int build_nowhere(Pipeline *p, Weights *weights, Adapter *targets, Adapter *all, Builder builder, Error *err) {
    Arena *arena = arena_new();
    Graph *g = arena ? graph_new(arena) : NULL;
    if (!g) return fail(err, DRPO_E_MEMORY, "%s: out of memory", p->folder);
    Build build = {.g = g, .weights = weights, .adapter = targets, .registering = targets || all, .all_linears = all};
    int code = 0;
    builder(p, &build);
    /* A tensor that is missing makes the graph fail too; its name says more. */
    if (weights_mistake(weights)) code = weights_finish(weights, err);
    if (code >= 0) code = graph_check(g, err);
    arena_free(arena);
    return code;
}

static void append_unet(Pipeline *p, Build *b) {
    int width = p->unet.channels[0], size = p->unet.sample_size;
    Value latents = input(b->g, "latents", DT_F32, shape4(1, p->unet.in_channels, size, size));
    Value time = input(b->g, "time", DT_F32, shape2(1, width));
    Value text = input(b->g, "text", DT_F32, shape3(1, tokenizer_length(p->tokenizer), p->unet.cross_attention_dim));
    Value added =
        p->unet.added_text_time ? input(b->g, "added", DT_F32, shape2(1, p->unet.projection_input_dim)) : NULL;
    unet_build(b, &p->unet, latents, time, text, added);
}

static void append_vae(Pipeline *p, Build *b) {
    int small = SOME_SIDE, size = small * vae_factor(&p->vae); /* weights fit any size */
    vae_decode(b, &p->vae, input(b->g, "latents", DT_F32, shape4(1, p->vae.latent_channels, small, small)));
    vae_encode(b, &p->vae, input(b->g, "image", DT_F32, shape4(1, p->vae.in_channels, size, size)));
}

static void append_text(Pipeline *p, Build *b) {
    Value last;
    Value ids = input(b->g, "ids", DT_I32, shape2(1, tokenizer_length(p->tokenizer)));
    clip_text_build(b, &p->text, ids, &last, NULL);
}

static int check_component(Pipeline *p, Weights *weights, Builder builder, Error *err) {
    TRY(build_nowhere(p, weights, NULL, NULL, builder, err));
    return weights_finish(weights, err);
}

static int check_fit(const Pipeline *p, Error *err) {
    if (p->text.width != p->unet.cross_attention_dim)
        return fail(err, DRPO_E_INPUT, "%s: text_encoder has width %d, unet expects cross_attention_dim %d", p->folder,
                    p->text.width, p->unet.cross_attention_dim);
    if (p->unet.out_channels != p->unet.in_channels)
        return fail(err, DRPO_E_INPUT, "%s: unet turns %d channels into %d; a generator from noise has as many of both",
                    p->folder, p->unet.in_channels, p->unet.out_channels);
    if (p->vae.in_channels != RGB || p->vae.out_channels != RGB)
        return fail(err, DRPO_E_INPUT, "%s: vae takes %d and makes %d colours; pictures have %d", p->folder,
                    p->vae.in_channels, p->vae.out_channels, RGB);
    if (p->vae.latent_channels != p->unet.in_channels)
        return fail(err, DRPO_E_INPUT, "%s: vae has %d latent channels, unet expects %d", p->folder,
                    p->vae.latent_channels, p->unet.in_channels);
    if (tokenizer_vocab(p->tokenizer) > p->text.vocab)
        return fail(err, DRPO_E_INPUT, "%s: the tokenizer has %d entries, text_encoder only %d", p->folder,
                    tokenizer_vocab(p->tokenizer), p->text.vocab);
    if (tokenizer_length(p->tokenizer) > p->text.positions)
        return fail(err, DRPO_E_INPUT, "%s: the tokenizer makes %d tokens, text_encoder has %d positions", p->folder,
                    tokenizer_length(p->tokenizer), p->text.positions);
    return 0;
}

static int open_components(Pipeline *p, Error *err) {
    const ModelFiles *f = p->files;
    const char *document;
    TRY(model_document(f, "model_index.json", &document, err));
    TRY(check_index(document, err));
    TRY(model_document(f, "scheduler/scheduler_config.json", &document, err));
    TRY(read_schedule(p, document, err));
    TRY(model_tokenizer(f, "tokenizer", &p->tokenizer, err));
    TRY(model_document(f, "text_encoder/config.json", &document, err));
    TRY(clip_text_config_read(document, &p->text, err));
    TRY(model_document(f, "unet/config.json", &document, err));
    TRY(unet_config_read(document, &p->unet, err));
    TRY(model_document(f, "vae/config.json", &document, err));
    TRY(vae_config_read(document, &p->vae, err));
    TRY(check_fit(p, err));
    TRY(model_weights(f, "text_encoder", "model", &p->text_weights, err));
    TRY(model_weights(f, "unet", "diffusion_pytorch_model", &p->unet_weights, err));
    TRY(model_weights(f, "vae", "diffusion_pytorch_model", &p->vae_weights, err));
    weights_ignore(p->text_weights, "text_model.embeddings.position_ids");
    TRY(check_component(p, p->text_weights, append_text, err));
    TRY(check_component(p, p->unet_weights, append_unet, err));
    TRY(check_component(p, p->vae_weights, append_vae, err));
    p->latent_channels = p->unet.in_channels;
    p->latent_size = p->unet.sample_size;
    p->factor = vae_factor(&p->vae);
    return 0;
}

int pipeline_open(const char *folder, Pipeline **out, Error *err) {
    return pipeline_open_choice(&(ModelChoice){.path = folder}, out, err);
}

int pipeline_open_choice(const ModelChoice *choice, Pipeline **out, Error *err) {
    const char *name = choice->name ? choice->name : choice->path;
    Pipeline *p = calloc(1, sizeof *p);
    int code = p && (p->folder = strdup(choice->path)) && (p->name = strdup(name))
                   ? 0
                   : fail(err, DRPO_E_MEMORY, "--model %s: out of memory", name);
    if (code >= 0) code = model_files_open(choice, &p->files, err);
    if (code >= 0) code = open_components(p, err);
    if (code < 0) {
        pipeline_free(p);
        return code;
    }
    *out = p;
    return 0;
}

void pipeline_free(Pipeline *p) {
    if (!p) return;
    weights_free(p->unet_weights);
    weights_free(p->vae_weights);
    weights_free(p->text_weights);
    tokenizer_free(p->tokenizer);
    model_files_close(p->files);
    free(p->folder);
    free(p->name);
    free(p);
}

int pipeline_latent_side(const Pipeline *p, int resolution, int *side, Error *err) {
    int multiple = p->factor << (p->unet.blocks - 1); /* the UNet halves its latents between blocks */
    *side = resolution ? resolution / p->factor : p->latent_size;
    if (resolution >= 0 && resolution % multiple == 0) return 0;
    return fail(err, DRPO_E_USAGE, "--resolution %d: must be a multiple of %d for this model", resolution, multiple);
}

const char *pipeline_sha256(Pipeline *p) {
    if (p->sha256[0] == 0 && weights_sha256(p->unet_weights, p->sha256, NULL) < 0) p->sha256[0] = 0;
    return p->sha256;
}

int pipeline_register(Pipeline *p, Adapter *targets, Adapter *all, Error *err) {
    TRY(build_nowhere(p, p->unet_weights, targets, all, append_unet, err));
    if (targets && targets->n_pair == 0)
        return fail(err, DRPO_E_USAGE,
                    "--lora-targets: the UNet has no linear layer with such a name (e.g. to_q,to_k,to_v,to_out.0)");
    return 0;
}
