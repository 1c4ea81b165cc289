/* The VAE's config.json -> VaeConfig. Defaults are diffusers' own, for files that leave keys out. */
#include "model/component_config.h"
#include "model/vae.h"

static const ConfigRule RULES[] = {
    {"in_channels", NULL},         {"out_channels", NULL},
    {"latent_channels", NULL},     {"sample_size", NULL},
    {"block_out_channels", NULL},  {"down_block_types", NULL},
    {"up_block_types", NULL},      {"layers_per_block", NULL},
    {"norm_num_groups", NULL},     {"scaling_factor", NULL},
    {"shift_factor", NULL},        {"use_quant_conv", NULL},
    {"use_post_quant_conv", NULL}, {"mid_block_add_attention", NULL},
    {"force_upcast", NULL},        {"act_fn", NULL},
    {"latents_mean", "null"},      {"latents_std", "null"},
};

enum { MAX_CHANNELS = 1 << 14, MAX_LAYERS = 16 };

static int read_blocks(const JsonReader *r, VaeConfig *c) {
    int64_t channels[VAE_MAX_BLOCKS];
    bool all[VAE_MAX_BLOCKS];
    json_require(r, "block_out_channels");
    json_require(r, "down_block_types");
    json_require(r, "up_block_types");
    c->blocks = (int)json_get_ints(r, "block_out_channels", channels, VAE_MAX_BLOCKS);
    TRY(json_finish(r));
    if (c->blocks == 0) return fail(r->err, DRPO_E_INPUT, "%s: block_out_channels is empty", r->where);
    TRY(component_ints(r, "block_out_channels", 0, 1, MAX_CHANNELS, c->channels, c->blocks));
    TRY(component_choices(r, "down_block_types", "DownEncoderBlock2D", NULL, all, c->blocks));
    TRY(component_choices(r, "up_block_types", "UpDecoderBlock2D", NULL, all, c->blocks));
    TRY(component_int(r, "layers_per_block", 1, 1, MAX_LAYERS, &c->layers));
    TRY(component_int(r, "norm_num_groups", 32, 1, MAX_CHANNELS, &c->norm_groups));
    for (int i = 0; i < c->blocks; i++)
        if (c->channels[i] % c->norm_groups)
            return fail(r->err, DRPO_E_INPUT, "%s: block_out_channels has %d, not a multiple of norm_num_groups %d",
                        r->where, c->channels[i], c->norm_groups);
    return 0;
}

static int read_all(const JsonReader *r, void *config) {
    VaeConfig *c = config;
    TRY(component_class(r, "AutoencoderKL"));
    TRY(component_check(r, RULES, sizeof RULES / sizeof *RULES));
    TRY(component_int(r, "in_channels", 3, 1, MAX_CHANNELS, &c->in_channels));
    TRY(component_int(r, "out_channels", 3, 1, MAX_CHANNELS, &c->out_channels));
    TRY(component_int(r, "latent_channels", 4, 1, MAX_CHANNELS, &c->latent_channels));
    TRY(component_int(r, "sample_size", 32, 1, 1 << 16, &c->sample_size));
    TRY(read_blocks(r, c));
    c->scaling_factor = (float)json_get_number(r, "scaling_factor", 0.18215);
    c->shift_factor = (float)json_get_number(r, "shift_factor", 0);
    c->use_quant_conv = json_get_bool(r, "use_quant_conv", true);
    c->use_post_quant_conv = json_get_bool(r, "use_post_quant_conv", true);
    c->mid_attention = json_get_bool(r, "mid_block_add_attention", true);
    c->force_upcast = json_get_bool(r, "force_upcast", true);
    TRY(json_finish(r));
    if (!(c->scaling_factor > 0)) return fail(r->err, DRPO_E_INPUT, "%s: scaling_factor must be positive", r->where);
    return component_act(r, "act_fn", ACT_SILU, &c->act);
}

int vae_config_read(const char *path, VaeConfig *c, Error *err) {
    *c = (VaeConfig){0};
    return component_read(path, read_all, c, err);
}

int vae_factor(const VaeConfig *c) { return 1 << (c->blocks - 1); }
