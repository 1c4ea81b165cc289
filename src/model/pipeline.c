/* Pipeline: opens every component of a diffusers folder and builds each network once to nowhere, so that whatever is
 * missing, unused or unsupported is reported before any work is done. */
#include "model/pipeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "model/advice.h"
#include "model/component_config.h"

enum { RGB = 3, SOME_SIDE = 8, TIME_IDS = 6 };

static int read_index(Pipeline *p, const char *document, Error *err) {
    const char *path;
    json_t *root;
    TRY(document_load(document, &root, &path, err));
    JsonReader r = {root, path, err};
    char get[ADVICE_LENGTH];
    const char *class_name = json_get_string(&r, "_class_name", "");
    p->sdxl = strcmp(class_name, "StableDiffusionXLPipeline") == 0;
    if (!p->sdxl && strcmp(class_name, "StableDiffusionPipeline") != 0)
        fail(
            err, DRPO_E_INPUT,
            "%s: \"_class_name\" is \"%s\"; supported: StableDiffusionPipeline, StableDiffusionXLPipeline; get one: %s",
            path, class_name, repository_advice("stabilityai/sd-turbo", get));
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
    Value text = input(b->g, "text", DT_F32, shape3(1, p->text.tokens, p->unet.cross_attention_dim));
    Value added =
        p->unet.added_text_time ? input(b->g, "added", DT_F32, shape2(1, p->unet.projection_input_dim)) : NULL;
    unet_build(b, &p->unet, latents, time, text, added);
}

static void append_vae(Pipeline *p, Build *b) {
    int small = SOME_SIDE, size = small * vae_factor(&p->vae); /* weights fit any size */
    vae_decode(b, &p->vae, input(b->g, "latents", DT_F32, shape4(1, p->vae.latent_channels, small, small)));
    vae_encode(b, &p->vae, input(b->g, "image", DT_F32, shape4(1, p->vae.in_channels, size, size)));
}

static int check_component(Pipeline *p, Weights *weights, Builder builder, Error *err) {
    TRY(build_nowhere(p, weights, NULL, NULL, builder, err));
    return weights_finish(weights, err);
}

static int check_text_fit(const Pipeline *p, Error *err) {
    const UnetConfig *u = &p->unet;
    if (u->added_text_time != p->sdxl)
        return fail(
            err, DRPO_E_INPUT,
            "%s: unet/config.json: addition_embed_type is %s, but model_index.json says %s; the parts belong to "
            "different families",
            p->folder, u->added_text_time ? "text_time" : "null",
            p->sdxl ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline");
    if (p->text.width != u->cross_attention_dim)
        return fail(err, DRPO_E_INPUT, "%s: text_encoder%s width %d, unet expects cross_attention_dim %d", p->folder,
                    p->sdxl ? " and text_encoder_2 together have" : " has", p->text.width, u->cross_attention_dim);
    int added = p->text.pooled + TIME_IDS * u->addition_time_embed_dim;
    if (p->sdxl && added != u->projection_input_dim)
        return fail(err, DRPO_E_INPUT,
                    "%s: pooled text of %d and %d time ids of %d make %d numbers, unet expects "
                    "projection_class_embeddings_input_dim %d",
                    p->folder, p->text.pooled, TIME_IDS, u->addition_time_embed_dim, added, u->projection_input_dim);
    return 0;
}

static int check_fit(const Pipeline *p, Error *err) {
    TRY(check_text_fit(p, err));
    if (p->unet.out_channels != p->unet.in_channels)
        return fail(err, DRPO_E_INPUT, "%s: unet turns %d channels into %d; a generator from noise has as many of both",
                    p->folder, p->unet.in_channels, p->unet.out_channels);
    if (p->vae.in_channels != RGB || p->vae.out_channels != RGB)
        return fail(err, DRPO_E_INPUT, "%s: vae takes %d and makes %d colours; pictures have %d", p->folder,
                    p->vae.in_channels, p->vae.out_channels, RGB);
    if (p->vae.latent_channels != p->unet.in_channels)
        return fail(err, DRPO_E_INPUT, "%s: vae has %d latent channels, unet expects %d", p->folder,
                    p->vae.latent_channels, p->unet.in_channels);
    return 0;
}

static int open_components(Pipeline *p, Error *err) {
    const ModelFiles *f = p->files;
    const char *document;
    TRY(model_document(f, "model_index.json", &document, err));
    TRY(read_index(p, document, err));
    TRY(model_document(f, "scheduler/scheduler_config.json", &document, err));
    TRY(one_step_read(document, &p->stock, err));
    /* the released trainer of SDXL-Turbo runs the stock scheduler */
    p->released = p->sdxl ? p->stock : one_step_released();
    TRY(text_encoders_open(f, p->sdxl, &p->text, err));
    TRY(model_document(f, "unet/config.json", &document, err));
    TRY(unet_config_read(document, &p->unet, err));
    TRY(model_document(f, "vae/config.json", &document, err));
    TRY(vae_config_read(document, &p->vae, err));
    TRY(check_fit(p, err));
    TRY(model_weights(f, "unet", "diffusion_pytorch_model", &p->unet_weights, err));
    weights_keep_stored(p->unet_weights);
    TRY(model_weights(f, "vae", "diffusion_pytorch_model", &p->vae_weights, err));
    if (p->sdxl && p->vae.force_upcast) weights_keep_precise(p->vae_weights); /* as its pipeline in diffusers does */
    TRY(text_encoders_check(&p->text, err));
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
    text_encoders_close(&p->text);
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
