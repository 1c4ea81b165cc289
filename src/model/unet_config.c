/* The UNet's config.json -> UnetConfig. Defaults are diffusers' own, for files that leave keys out. */
#include <string.h>

#include "model/component_config.h"
#include "model/unet.h"

static const ConfigRule RULES[] = {
    /* read below */
    {"in_channels", NULL},
    {"out_channels", NULL},
    {"sample_size", NULL},
    {"block_out_channels", NULL},
    {"down_block_types", NULL},
    {"mid_block_type", NULL},
    {"up_block_types", NULL},
    {"layers_per_block", NULL},
    {"transformer_layers_per_block", NULL},
    {"attention_head_dim", NULL},
    {"num_attention_heads", NULL},
    {"cross_attention_dim", NULL},
    {"use_linear_projection", NULL},
    {"resnet_time_scale_shift", NULL},
    {"only_cross_attention", NULL},
    {"norm_num_groups", NULL},
    {"norm_eps", NULL},
    {"flip_sin_to_cos", NULL},
    {"freq_shift", NULL},
    {"addition_embed_type", NULL},
    {"addition_time_embed_dim", NULL},
    {"projection_class_embeddings_input_dim", NULL},
    {"downsample_padding", NULL},
    {"mid_block_scale_factor", NULL},
    {"act_fn", NULL},
    /* without effect here: attention is always computed in single precision or better; heads of an unused embedding */
    {"upcast_attention", NULL},
    {"addition_embed_type_num_heads", NULL},
    /* what else the supported families say */
    {"attention_type", "\"default\""},
    {"center_input_sample", "false"},
    {"class_embed_type", "null"},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", "null"},
    {"dropout", "0"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "null"},
    {"encoder_hid_dim_type", "null"},
    {"mid_block_only_cross_attention", "null|false"},
    {"num_class_embeds", "null"},
    {"resnet_out_scale_factor", "1"},
    {"resnet_skip_time_act", "false"},
    {"reverse_transformer_layers_per_block", "null"},
    {"time_cond_proj_dim", "null"},
    {"time_embedding_act_fn", "null"},
    {"time_embedding_dim", "null"},
    {"time_embedding_type", "\"positional\""},
    {"timestep_post_act", "null"},
};

enum { MAX_CHANNELS = 1 << 16, MAX_DEPTH = 64, MAX_SIDE = 1 << 10 }; /* sides beyond overflow counts of pixels */

static int read_choice(const JsonReader *r, const char *key, const char *fallback, const char *no, const char *yes,
                       bool *out) {
    const char *value = json_get_string(r, key, fallback);
    TRY(json_finish(r));
    *out = value && strcmp(value, yes) == 0;
    if (*out || (value && strcmp(value, no) == 0)) return 0;
    return fail(r->err, DRPO_E_INPUT, "%s: %s = '%s' is not supported (supported: %s, %s)", r->where, key, value, no,
                yes);
}

static int read_blocks(const JsonReader *r, UnetConfig *c) {
    int64_t channels[UNET_MAX_BLOCKS];
    json_require(r, "block_out_channels");
    json_require(r, "down_block_types");
    json_require(r, "up_block_types");
    c->blocks = (int)json_get_ints(r, "block_out_channels", channels, UNET_MAX_BLOCKS);
    TRY(json_finish(r));
    if (c->blocks == 0) return fail(r->err, DRPO_E_INPUT, "%s: block_out_channels is empty", r->where);
    TRY(component_ints(r, "block_out_channels", 0, 1, MAX_CHANNELS, c->channels, c->blocks));
    TRY(component_choices(r, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", c->down_cross, c->blocks));
    TRY(component_choices(r, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", c->up_cross, c->blocks));
    TRY(read_choice(r, "mid_block_type", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D", "UNetMidBlock2DCrossAttn",
                    &c->mid_cross));
    TRY(component_ints(r, "layers_per_block", 2, 1, UNET_MAX_LAYERS, c->layers, c->blocks));
    return component_ints(r, "transformer_layers_per_block", 1, 0, MAX_DEPTH, c->transformer_layers, c->blocks);
}

static int read_attention(const JsonReader *r, UnetConfig *c) {
    int text[UNET_MAX_BLOCKS];
    const char *heads = json_has(r, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
    TRY(component_ints(r, heads, 8, 1, MAX_CHANNELS, c->heads, c->blocks));
    TRY(component_ints(r, "cross_attention_dim", 1280, 1, MAX_CHANNELS, text, c->blocks));
    c->cross_attention_dim = text[0];
    for (int i = 0; i < c->blocks; i++) {
        if (text[i] != text[0])
            return fail(r->err, DRPO_E_INPUT, "%s: cross_attention_dim differs between blocks; one value is supported",
                        r->where);
        bool used = c->down_cross[i] || c->up_cross[c->blocks - 1 - i] || (c->mid_cross && i == c->blocks - 1);
        if (used && c->channels[i] % c->heads[i])
            return fail(r->err, DRPO_E_INPUT, "%s: %d channels of block %d do not divide into %d heads (%s)", r->where,
                        c->channels[i], i, c->heads[i], heads);
    }
    c->use_linear_projection = json_get_bool(r, "use_linear_projection", false);
    c->only_cross_attention = json_get_bool(r, "only_cross_attention", false);
    return json_finish(r);
}

static int read_norms_and_time(const JsonReader *r, UnetConfig *c) {
    TRY(component_int(r, "norm_num_groups", 32, 1, MAX_CHANNELS, &c->norm_groups));
    for (int i = 0; i < c->blocks; i++)
        if (c->channels[i] % c->norm_groups)
            return fail(r->err, DRPO_E_INPUT, "%s: block_out_channels has %d, not a multiple of norm_num_groups %d",
                        r->where, c->channels[i], c->norm_groups);
    c->norm_eps = (float)json_get_number(r, "norm_eps", 1e-5);
    c->mid_block_scale = (float)json_get_number(r, "mid_block_scale_factor", 1);
    c->flip_sin_to_cos = json_get_bool(r, "flip_sin_to_cos", true);
    TRY(json_finish(r));
    if (!(c->norm_eps > 0) || !(c->mid_block_scale > 0))
        return fail(r->err, DRPO_E_INPUT, "%s: norm_eps and mid_block_scale_factor must be positive", r->where);
    TRY(component_int(r, "freq_shift", 0, 0, 1, &c->freq_shift));
    TRY(component_int(r, "downsample_padding", 1, 0, 1, &c->downsample_padding));
    TRY(read_choice(r, "resnet_time_scale_shift", "default", "default", "scale_shift", &c->scale_shift));
    return component_act(r, "act_fn", ACT_SILU, &c->act);
}

static int read_added(const JsonReader *r, UnetConfig *c) {
    const char *kind = json_get_string(r, "addition_embed_type", NULL);
    TRY(json_finish(r));
    c->added_text_time = kind != NULL;
    if (!kind) return 0;
    if (strcmp(kind, "text_time") != 0)
        return fail(r->err, DRPO_E_INPUT,
                    "%s: addition_embed_type = '%s' is not supported (supported: null, text_time)", r->where, kind);
    json_require(r, "addition_time_embed_dim");
    json_require(r, "projection_class_embeddings_input_dim");
    TRY(component_int(r, "addition_time_embed_dim", 0, 1, MAX_CHANNELS, &c->addition_time_embed_dim));
    return component_int(r, "projection_class_embeddings_input_dim", 0, 1, MAX_CHANNELS, &c->projection_input_dim);
}

static int read_all(const JsonReader *r, void *config) {
    UnetConfig *c = config;
    TRY(component_class(r, "UNet2DConditionModel"));
    TRY(component_check(r, RULES, sizeof RULES / sizeof *RULES));
    TRY(component_int(r, "in_channels", 4, 1, MAX_CHANNELS, &c->in_channels));
    TRY(component_int(r, "out_channels", 4, 1, MAX_CHANNELS, &c->out_channels));
    TRY(component_int(r, "sample_size", 64, 1, MAX_SIDE, &c->sample_size));
    TRY(read_blocks(r, c));
    TRY(read_attention(r, c));
    TRY(read_norms_and_time(r, c));
    return read_added(r, c);
}

int unet_config_read(const char *path, UnetConfig *c, Error *err) {
    *c = (UnetConfig){0};
    return component_read(path, read_all, c, err);
}
