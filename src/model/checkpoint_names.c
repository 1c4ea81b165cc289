/* Checkpoint names, read from a table of patterns: the first row that fits decides. See checkpoint_names.h.
 *
 * In a pattern of the original name, {level} and {layer} are numbers, {reversed} is a level counted from the other end,
 * {in} and {out} number the blocks of the UNet's halves through (three to a level, the first half after conv_in), and a
 * final * is the rest. The new name says {level}, {layer}, {qkv} and *; `inner` translates the rest once more. */
#include "model/checkpoint_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_PER_LEVEL = 3, LARGEST = 9999 };

typedef struct Rule {
    const char *original, *name;
    const struct Rule *inner; /* for what * stands for; ended by a row without names */
    NameChange change;
} Rule;

static const Rule UNET_RESNET[] = {{"in_layers.0.*", "norm1.*", NULL, NAME_KEEP},
                                   {"in_layers.2.*", "conv1.*", NULL, NAME_KEEP},
                                   {"emb_layers.1.*", "time_emb_proj.*", NULL, NAME_KEEP},
                                   {"out_layers.0.*", "norm2.*", NULL, NAME_KEEP},
                                   {"out_layers.3.*", "conv2.*", NULL, NAME_KEEP},
                                   {"skip_connection.*", "conv_shortcut.*", NULL, NAME_KEEP},
                                   {0}};

static const Rule UNET[] = {{"time_embed.0.*", "time_embedding.linear_1.*", NULL, NAME_KEEP},
                            {"time_embed.2.*", "time_embedding.linear_2.*", NULL, NAME_KEEP},
                            {"label_emb.0.0.*", "add_embedding.linear_1.*", NULL, NAME_KEEP},
                            {"label_emb.0.2.*", "add_embedding.linear_2.*", NULL, NAME_KEEP},
                            {"input_blocks.0.0.*", "conv_in.*", NULL, NAME_KEEP},
                            {"input_blocks.{in}.0.op.*", "down_blocks.{level}.downsamplers.0.conv.*", NULL, NAME_KEEP},
                            {"input_blocks.{in}.0.*", "down_blocks.{level}.resnets.{layer}.*", UNET_RESNET, NAME_KEEP},
                            {"input_blocks.{in}.1.*", "down_blocks.{level}.attentions.{layer}.*", NULL, NAME_KEEP},
                            {"middle_block.0.*", "mid_block.resnets.0.*", UNET_RESNET, NAME_KEEP},
                            {"middle_block.1.*", "mid_block.attentions.0.*", NULL, NAME_KEEP},
                            {"middle_block.2.*", "mid_block.resnets.1.*", UNET_RESNET, NAME_KEEP},
                            {"output_blocks.{out}.0.*", "up_blocks.{level}.resnets.{layer}.*", UNET_RESNET, NAME_KEEP},
                            {"output_blocks.{out}.1.conv.*", "up_blocks.{level}.upsamplers.0.conv.*", NULL, NAME_KEEP},
                            {"output_blocks.{out}.2.conv.*", "up_blocks.{level}.upsamplers.0.conv.*", NULL, NAME_KEEP},
                            {"output_blocks.{out}.1.*", "up_blocks.{level}.attentions.{layer}.*", NULL, NAME_KEEP},
                            {"out.0.*", "conv_norm_out.*", NULL, NAME_KEEP},
                            {"out.2.*", "conv_out.*", NULL, NAME_KEEP},
                            {0}};

static const Rule VAE_RESNET[] = {{"nin_shortcut.*", "conv_shortcut.*", NULL, NAME_KEEP},
                                  {"norm1.*", "norm1.*", NULL, NAME_KEEP},
                                  {"conv1.*", "conv1.*", NULL, NAME_KEEP},
                                  {"norm2.*", "norm2.*", NULL, NAME_KEEP},
                                  {"conv2.*", "conv2.*", NULL, NAME_KEEP},
                                  {0}};

static const Rule VAE_ATTENTION[] = {{"norm.*", "group_norm.*", NULL, NAME_KEEP},
                                     {"q.*", "to_q.*", NULL, NAME_SQUEEZE},
                                     {"k.*", "to_k.*", NULL, NAME_SQUEEZE},
                                     {"v.*", "to_v.*", NULL, NAME_SQUEEZE},
                                     {"proj_out.*", "to_out.0.*", NULL, NAME_SQUEEZE},
                                     {0}};

static const Rule VAE_HALF[] = {
    {"down.{level}.block.{layer}.*", "down_blocks.{level}.resnets.{layer}.*", VAE_RESNET, NAME_KEEP},
    {"down.{level}.downsample.conv.*", "down_blocks.{level}.downsamplers.0.conv.*", NULL, NAME_KEEP},
    {"up.{reversed}.block.{layer}.*", "up_blocks.{level}.resnets.{layer}.*", VAE_RESNET, NAME_KEEP},
    {"up.{reversed}.upsample.conv.*", "up_blocks.{level}.upsamplers.0.conv.*", NULL, NAME_KEEP},
    {"mid.block_1.*", "mid_block.resnets.0.*", VAE_RESNET, NAME_KEEP},
    {"mid.block_2.*", "mid_block.resnets.1.*", VAE_RESNET, NAME_KEEP},
    {"mid.attn_1.*", "mid_block.attentions.0.*", VAE_ATTENTION, NAME_KEEP},
    {"conv_in.*", "conv_in.*", NULL, NAME_KEEP},
    {"conv_out.*", "conv_out.*", NULL, NAME_KEEP},
    {"norm_out.*", "conv_norm_out.*", NULL, NAME_KEEP},
    {0}};

static const Rule VAE[] = {{"encoder.*", "encoder.*", VAE_HALF, NAME_KEEP},
                           {"decoder.*", "decoder.*", VAE_HALF, NAME_KEEP},
                           {"quant_conv.*", "quant_conv.*", NULL, NAME_KEEP},
                           {"post_quant_conv.*", "post_quant_conv.*", NULL, NAME_KEEP},
                           {0}};

static const Rule OPEN_CLIP_LAYER[] = {{"ln_1.*", "layer_norm1.*", NULL, NAME_KEEP},
                                       {"ln_2.*", "layer_norm2.*", NULL, NAME_KEEP},
                                       {"attn.in_proj_weight", "self_attn.{qkv}.weight", NULL, NAME_SPLIT},
                                       {"attn.in_proj_bias", "self_attn.{qkv}.bias", NULL, NAME_SPLIT},
                                       {"attn.out_proj.*", "self_attn.out_proj.*", NULL, NAME_KEEP},
                                       {"mlp.c_fc.*", "mlp.fc1.*", NULL, NAME_KEEP},
                                       {"mlp.c_proj.*", "mlp.fc2.*", NULL, NAME_KEEP},
                                       {0}};

static const Rule OPEN_CLIP[] = {
    {"positional_embedding", "text_model.embeddings.position_embedding.weight", NULL, NAME_KEEP},
    {"token_embedding.weight", "text_model.embeddings.token_embedding.weight", NULL, NAME_KEEP},
    {"transformer.resblocks.{layer}.*", "text_model.encoder.layers.{layer}.*", OPEN_CLIP_LAYER, NAME_KEEP},
    {"ln_final.*", "text_model.final_layer_norm.*", NULL, NAME_KEEP},
    {"text_projection", "text_projection.weight", NULL, NAME_TRANSPOSE},
    {0}};

static const Rule CLIP[] = {{"text_model.*", "text_model.*", NULL, NAME_KEEP}, {0}};

static const struct {
    const char *prefix, *component;
    const Rule *rules;
} PARTS[] = {
    {"model.diffusion_model.", "unet", UNET},
    {"first_stage_model.", "vae", VAE},
    {"conditioner.embedders.0.transformer.", "text_encoder", CLIP},
    {"conditioner.embedders.0.model.", "text_encoder", OPEN_CLIP},
    {"cond_stage_model.model.", "text_encoder", OPEN_CLIP},
    {"conditioner.embedders.1.model.", "text_encoder_2", OPEN_CLIP},
};

/* Tables of the noise schedule, averages of training, and what only the other half of CLIP needs. */
static const char *const NOT_NEEDED[] = {"model_ema.",
                                         "alphas_cumprod",
                                         "betas",
                                         "sqrt_",
                                         "log_one_minus_alphas_cumprod",
                                         "posterior_",
                                         "denoiser.",
                                         "first_stage_model.loss.",
                                         "conditioner.embedders.0.model.logit_scale",
                                         "conditioner.embedders.1.model.logit_scale",
                                         "cond_stage_model.model.logit_scale",
                                         "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
                                         "conditioner.embedders.0.logit_scale",
                                         "conditioner.embedders.0.model.attn_mask",
                                         "conditioner.embedders.1.model.attn_mask",
                                         "cond_stage_model.model.attn_mask"};

static bool begins_with(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

/* ---- one pattern ---- */

typedef struct Match {
    int level, layer;
    const char *rest; /* what * stands for; NULL: the pattern has none */
} Match;

/* Takes "{word}" of a pattern and the digits of a name. */
static bool take_number(const char **pattern, const char **name, int levels, Match *m) {
    char *end;
    if (**name < '0' || **name > '9') return false;
    long value = strtol(*name, &end, 10);
    int n = value > LARGEST ? LARGEST : (int)value;
    if (begins_with(*pattern, "{in}")) {
        if (n < 1) return false;
        m->level = (n - 1) / BLOCKS_PER_LEVEL;
        m->layer = (n - 1) % BLOCKS_PER_LEVEL;
    } else if (begins_with(*pattern, "{out}")) {
        m->level = n / BLOCKS_PER_LEVEL;
        m->layer = n % BLOCKS_PER_LEVEL;
    } else if (begins_with(*pattern, "{reversed}")) {
        m->level = levels - 1 - n;
    } else if (begins_with(*pattern, "{level}")) {
        m->level = n;
    } else {
        m->layer = n;
    }
    *pattern += strcspn(*pattern, "}") + 1;
    *name = end;
    return m->level >= 0;
}

static bool fits(const char *pattern, const char *name, int levels, Match *m) {
    *m = (Match){0};
    while (*pattern) {
        if (*pattern == '*') {
            m->rest = name;
            return *name != 0;
        }
        if (*pattern == '{') {
            if (!take_number(&pattern, &name, levels, m)) return false;
        } else if (*pattern++ != *name++) {
            return false;
        }
    }
    return *name == 0;
}

/* ---- a whole name ---- */

typedef struct Writer {
    char *text;
    size_t used;
} Writer;

static void put(Writer *w, const char *text, size_t n) {
    for (size_t i = 0; i < n && w->used + 1 < CHECKPOINT_NAME; i++) w->text[w->used++] = text[i];
    w->text[w->used] = 0;
}

static void put_number(Writer *w, int n) {
    char text[16];
    put(w, text, (size_t)snprintf(text, sizeof text, "%d", n));
}

/* Writes the new name up to its *. */
static void write_name(Writer *w, const char *pattern, const Match *m, int part) {
    static const char *const projection[] = {"q_proj", "k_proj", "v_proj"};
    while (*pattern && *pattern != '*') {
        size_t plain = strcspn(pattern, "{*");
        put(w, pattern, plain);
        pattern += plain;
        if (*pattern != '{') continue;
        if (begins_with(pattern, "{level}")) put_number(w, m->level);
        if (begins_with(pattern, "{layer}")) put_number(w, m->layer);
        if (begins_with(pattern, "{qkv}")) put(w, projection[part], strlen(projection[part]));
        pattern += strcspn(pattern, "}") + 1;
    }
}

static const Rule *find_rule(const Rule *rules, const char *name, int levels, Match *m) {
    for (; rules->original; rules++)
        if (fits(rules->original, name, levels, m)) return rules;
    return NULL;
}

/* Appends `name` in its new words to every part; false: no row fits. *layer: of the outermost row. */
static bool translate(const Rule *rules, const char *name, int levels, CheckpointName *out, int *layer) {
    Writer w[3] = {{out->name[0], 0}, {out->name[1], 0}, {out->name[2], 0}};
    out->change = NAME_KEEP;
    for (*layer = -1; rules;) {
        Match m;
        const Rule *rule = find_rule(rules, name, levels, &m);
        if (!rule) return false;
        if (*layer < 0) *layer = m.layer;
        if (rule->change != NAME_KEEP) out->change = rule->change;
        for (int i = 0; i < 3; i++) write_name(&w[i], rule->name, &m, i);
        rules = rule->inner;
        name = m.rest ? m.rest : "";
    }
    for (int i = 0; i < 3; i++) put(&w[i], name, strlen(name));
    out->parts = out->change == NAME_SPLIT ? 3 : 1;
    return w[0].used + 1 < CHECKPOINT_NAME;
}

bool checkpoint_name(const char *original, const CheckpointShape *shape, CheckpointName *out) {
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof NOT_NEEDED / sizeof *NOT_NEEDED; i++)
        if (begins_with(original, NOT_NEEDED[i])) return true;
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
        int layer;
        if (!begins_with(original, PARTS[i].prefix)) continue;
        const char *name = original + strlen(PARTS[i].prefix);
        if (!translate(PARTS[i].rules, name, shape->vae_levels, out, &layer)) return false;
        bool single = PARTS[i].rules == OPEN_CLIP && !shape->sdxl;
        bool beyond = shape->text_layers && begins_with(name, "transformer.resblocks.") && layer >= shape->text_layers;
        bool dropped = single && (beyond || out->change == NAME_TRANSPOSE);
        out->component = dropped ? NULL : PARTS[i].component;
        return true;
    }
    return false;
}
