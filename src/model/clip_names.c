/* Names of OpenCLIP -> names of transformers. Projections are stored [in,out] there, and q, k, v as one matrix. */
#include "model/clip_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Row {
    const char *from, *to; /* to NULL: not needed; a trailing dot: the rest is kept */
    NameChange change;
} Row;

static const Row whole[] = {
    {"logit_scale", "logit_scale", NAME_KEEP},
    {"text_projection", "text_projection.weight", NAME_TRANSPOSE},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight", NAME_KEEP},
    {"token_embedding.weight", "text_model.embeddings.token_embedding.weight", NAME_KEEP},
    {"ln_final.", "text_model.final_layer_norm.", NAME_KEEP},
    {"visual.proj", "visual_projection.weight", NAME_TRANSPOSE},
    {"visual.class_embedding", "vision_model.embeddings.class_embedding", NAME_KEEP},
    {"visual.positional_embedding", "vision_model.embeddings.position_embedding.weight", NAME_KEEP},
    {"visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight", NAME_KEEP},
    {"visual.ln_pre.", "vision_model.pre_layrnorm.", NAME_KEEP},
    {"visual.ln_post.", "vision_model.post_layernorm.", NAME_KEEP},
    {"attn_mask", NULL, NAME_KEEP}, /* constants that some files carry */
    {"input_resolution", NULL, NAME_KEEP},
    {"context_length", NULL, NAME_KEEP},
    {"vocab_size", NULL, NAME_KEEP},
};

/* Within "transformer.resblocks.N."; %s of a split: q, k, v. */
static const Row block[] = {
    {"ln_1.", "layer_norm1.", NAME_KEEP},
    {"ln_2.", "layer_norm2.", NAME_KEEP},
    {"attn.in_proj_weight", "self_attn.%s_proj.weight", NAME_SPLIT},
    {"attn.in_proj_bias", "self_attn.%s_proj.bias", NAME_SPLIT},
    {"attn.out_proj.", "self_attn.out_proj.", NAME_KEEP},
    {"mlp.c_fc.", "mlp.fc1.", NAME_KEEP},
    {"mlp.c_proj.", "mlp.fc2.", NAME_KEEP},
};

static const Row *find_row(const Row *rows, size_t n, const char *name, const char **rest) {
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(rows[i].from);
        const bool open = rows[i].from[length - 1] == '.';
        if (strncmp(rows[i].from, name, length) != 0 || (!open && name[length])) continue;
        *rest = name + length;
        return &rows[i];
    }
    return NULL;
}

static bool block_name(const char *tower, const char *name, CheckpointName *out) {
    static const char *const part[] = {"q", "k", "v"};
    char *end = NULL;
    const long layer = strtol(name, &end, 10);
    const char *rest = NULL;
    if (end == name || *end != '.' || layer < 0 || layer > 999) return false;
    const Row *row = find_row(block, sizeof block / sizeof *block, end + 1, &rest);
    if (!row) return false;
    out->change = row->change;
    out->parts = row->change == NAME_SPLIT ? 3 : 1;
    for (int i = 0; i < out->parts; i++) {
        char to[64];
        const char *hole = strstr(row->to, "%s");
        if (hole)
            snprintf(to, sizeof to, "%.*s%s%s", (int)(hole - row->to), row->to, part[i], hole + 2);
        else
            snprintf(to, sizeof to, "%s%.20s", row->to, rest);
        snprintf(out->name[i], CHECKPOINT_NAME, "%s.encoder.layers.%ld.%s", tower, layer, to);
    }
    return true;
}

bool clip_name(const char *original, CheckpointName *out) {
    static const char text[] = "transformer.resblocks.", vision[] = "visual.transformer.resblocks.";
    const char *rest = NULL;
    *out = (CheckpointName){.component = "clip", .parts = 1};
    if (strncmp(original, text, sizeof text - 1) == 0) return block_name("text_model", original + sizeof text - 1, out);
    if (strncmp(original, vision, sizeof vision - 1) == 0)
        return block_name("vision_model", original + sizeof vision - 1, out);
    const Row *row = find_row(whole, sizeof whole / sizeof *whole, original, &rest);
    if (!row) return false;
    if (!row->to) out->component = NULL;
    out->change = row->change;
    snprintf(out->name[0], CHECKPOINT_NAME, "%s%.20s", row->to ? row->to : "", rest);
    return true;
}
