/* Full-size checkpoints as their original programs name them, written down from those programs' structure and not from
 * the table under test. The files hold no data: they are sparse, all weights are zero. */
#ifndef DRPO_TESTS_CHECKPOINT_FILE_H
#define DRPO_TESTS_CHECKPOINT_FILE_H

#include <stdlib.h>
#include <unistd.h>

#include "check.h"

typedef struct Checkpoint {
    FILE *header;
    char *text;
    size_t size;
    long long bytes;
    int count;
    char base[128]; /* what names begin with */
} Checkpoint;

static inline void add_tensor(Checkpoint *c, const char *name, const char *type, int element, int rank,
                              const long long *dim) {
    long long n = element;
    fprintf(c->header, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[", c->count++ ? "," : "{", c->base, name, type);
    for (int i = 0; i < rank; i++) {
        fprintf(c->header, "%s%lld", i ? "," : "", dim[i]);
        n *= dim[i];
    }
    fprintf(c->header, "],\"data_offsets\":[%lld,%lld]}", c->bytes, c->bytes + n);
    c->bytes += n;
}

#define ADD(c, name, ...)                                                                                              \
    add_tensor(c, name, "F16", 2, (int)(sizeof((long long[]){__VA_ARGS__}) / sizeof(long long)),                       \
               (long long[]){__VA_ARGS__})

/* "<name>.weight" with these sizes, and a bias */
#define LAYER(c, name, out, ...)                                                                                       \
    do {                                                                                                               \
        char full_[300];                                                                                               \
        snprintf(full_, sizeof full_, "%s.weight", name);                                                              \
        ADD(c, full_, out, __VA_ARGS__);                                                                               \
        snprintf(full_, sizeof full_, "%s.bias", name);                                                                \
        ADD(c, full_, out);                                                                                            \
    } while (0)

static inline void add_norm(Checkpoint *c, const char *name, int width) {
    char full[300];
    snprintf(full, sizeof full, "%s.weight", name);
    ADD(c, full, width);
    snprintf(full, sizeof full, "%s.bias", name);
    ADD(c, full, width);
}

/* "<at><suffix>"; the text stays for the next 7 calls. */
static inline const char *below(const char *at, const char *suffix) {
    static char names[8][256];
    static unsigned next;
    char *name = names[next++ % 8];
    assert_true(snprintf(name, sizeof names[0], "%s%s", at, suffix) < (int)sizeof names[0]);
    return name;
}

/* ---- UNet ---- */

typedef struct UnetShape {
    int width, levels, mult[4], depth[4], middle_depth, text, added;
} UnetShape;

static inline void add_unet_resnet(Checkpoint *c, const UnetShape *u, const char *at, int in, int out) {
    add_norm(c, below(at, ".in_layers.0"), in);
    LAYER(c, below(at, ".in_layers.2"), out, in, 3, 3);
    LAYER(c, below(at, ".emb_layers.1"), out, 4 * u->width);
    add_norm(c, below(at, ".out_layers.0"), out);
    LAYER(c, below(at, ".out_layers.3"), out, out, 3, 3);
    if (in != out) LAYER(c, below(at, ".skip_connection"), out, in, 1, 1);
}

static inline void add_attention(Checkpoint *c, const char *at, int width, int context) {
    ADD(c, below(at, ".to_q.weight"), width, width);
    ADD(c, below(at, ".to_k.weight"), width, context);
    ADD(c, below(at, ".to_v.weight"), width, context);
    LAYER(c, below(at, ".to_out.0"), width, width);
}

static inline void add_transformer(Checkpoint *c, const UnetShape *u, const char *at, int width, int depth) {
    char block[256];
    add_norm(c, below(at, ".norm"), width);
    LAYER(c, below(at, ".proj_in"), width, width);
    for (int i = 0; i < depth; i++) {
        snprintf(block, sizeof block, "%s.transformer_blocks.%d.attn1", at, i);
        add_attention(c, block, width, width);
        snprintf(block, sizeof block, "%s.transformer_blocks.%d.attn2", at, i);
        add_attention(c, block, width, u->text);
        for (int j = 1; j <= 3; j++) {
            snprintf(block, sizeof block, "%s.transformer_blocks.%d.norm%d", at, i, j);
            add_norm(c, block, width);
        }
        snprintf(block, sizeof block, "%s.transformer_blocks.%d.ff.net.0.proj", at, i);
        LAYER(c, block, 8 * width, width);
        snprintf(block, sizeof block, "%s.transformer_blocks.%d.ff.net.2", at, i);
        LAYER(c, block, width, 4 * width);
    }
    LAYER(c, below(at, ".proj_out"), width, width);
}

static inline void add_unet(Checkpoint *c, const UnetShape *u) {
    int channels = u->width, skip[32] = {u->width}, skips = 1, block = 1;
    char at[64];
    strcpy(c->base, "model.diffusion_model.");
    LAYER(c, "time_embed.0", 4 * u->width, u->width);
    LAYER(c, "time_embed.2", 4 * u->width, 4 * u->width);
    if (u->added) {
        LAYER(c, "label_emb.0.0", 4 * u->width, u->added);
        LAYER(c, "label_emb.0.2", 4 * u->width, 4 * u->width);
    }
    LAYER(c, "input_blocks.0.0", u->width, 4, 3, 3);
    for (int level = 0; level < u->levels; level++) {
        for (int i = 0; i < 2; i++, block++) {
            snprintf(at, sizeof at, "input_blocks.%d.0", block);
            add_unet_resnet(c, u, at, channels, u->width * u->mult[level]);
            channels = u->width * u->mult[level];
            snprintf(at, sizeof at, "input_blocks.%d.1", block);
            if (u->depth[level]) add_transformer(c, u, at, channels, u->depth[level]);
            skip[skips++] = channels;
        }
        if (level == u->levels - 1) break;
        snprintf(at, sizeof at, "input_blocks.%d.0.op", block++);
        LAYER(c, at, channels, channels, 3, 3);
        skip[skips++] = channels;
    }
    add_unet_resnet(c, u, "middle_block.0", channels, channels);
    add_transformer(c, u, "middle_block.1", channels, u->middle_depth);
    add_unet_resnet(c, u, "middle_block.2", channels, channels);
    block = 0;
    for (int level = u->levels - 1; level >= 0; level--) {
        for (int i = 0; i < 3; i++, block++) {
            snprintf(at, sizeof at, "output_blocks.%d.0", block);
            add_unet_resnet(c, u, at, channels + skip[--skips], u->width * u->mult[level]);
            channels = u->width * u->mult[level];
            snprintf(at, sizeof at, "output_blocks.%d.1", block);
            if (u->depth[level]) add_transformer(c, u, at, channels, u->depth[level]);
            if (level == 0 || i < 2) continue;
            snprintf(at, sizeof at, "output_blocks.%d.%d.conv", block, u->depth[level] ? 2 : 1);
            LAYER(c, at, channels, channels, 3, 3);
        }
    }
    add_norm(c, "out.0", u->width);
    LAYER(c, "out.2", 4, u->width, 3, 3);
}

/* ---- VAE: 128 channels times 1, 2, 4, 4 ---- */

static inline void add_vae_resnet(Checkpoint *c, const char *at, int in, int out) {
    add_norm(c, below(at, ".norm1"), in);
    LAYER(c, below(at, ".conv1"), out, in, 3, 3);
    add_norm(c, below(at, ".norm2"), out);
    LAYER(c, below(at, ".conv2"), out, out, 3, 3);
    if (in != out) LAYER(c, below(at, ".nin_shortcut"), out, in, 1, 1);
}

static inline void add_vae_middle(Checkpoint *c, const char *at) {
    static const char *const layer[] = {".attn_1.q", ".attn_1.k", ".attn_1.v", ".attn_1.proj_out"};
    add_vae_resnet(c, below(at, ".block_1"), 512, 512);
    add_norm(c, below(at, ".attn_1.norm"), 512);
    for (int i = 0; i < 4; i++) LAYER(c, below(at, layer[i]), 512, 512, 1, 1);
    add_vae_resnet(c, below(at, ".block_2"), 512, 512);
}

static inline void add_vae(Checkpoint *c) {
    static const int width[] = {128, 256, 512, 512};
    char at[64];
    int channels = 128;
    strcpy(c->base, "first_stage_model.");
    LAYER(c, "encoder.conv_in", 128, 3, 3, 3);
    for (int level = 0; level < 4; level++) {
        for (int i = 0; i < 2; i++, channels = width[level]) {
            snprintf(at, sizeof at, "encoder.down.%d.block.%d", level, i);
            add_vae_resnet(c, at, channels, width[level]);
        }
        snprintf(at, sizeof at, "encoder.down.%d.downsample.conv", level);
        if (level < 3) LAYER(c, at, channels, channels, 3, 3);
    }
    add_vae_middle(c, "encoder.mid");
    add_norm(c, "encoder.norm_out", 512);
    LAYER(c, "encoder.conv_out", 8, 512, 3, 3);
    LAYER(c, "decoder.conv_in", 512, 4, 3, 3);
    add_vae_middle(c, "decoder.mid");
    for (int level = 3; level >= 0; level--) {
        for (int i = 0; i < 3; i++, channels = width[level]) {
            snprintf(at, sizeof at, "decoder.up.%d.block.%d", level, i);
            add_vae_resnet(c, at, channels, width[level]);
        }
        snprintf(at, sizeof at, "decoder.up.%d.upsample.conv", level);
        if (level > 0) LAYER(c, at, channels, channels, 3, 3);
    }
    add_norm(c, "decoder.norm_out", 128);
    LAYER(c, "decoder.conv_out", 3, 128, 3, 3);
    LAYER(c, "quant_conv", 8, 8, 1, 1);
    LAYER(c, "post_quant_conv", 4, 4, 1, 1);
}

/* ---- text encoders ---- */

static inline void add_open_clip(Checkpoint *c, const char *base, int width, int layers) {
    char at[64];
    strcpy(c->base, base);
    ADD(c, "positional_embedding", 77, width);
    ADD(c, "text_projection", width, width);
    add_tensor(c, "logit_scale", "F16", 2, 0, NULL);
    ADD(c, "token_embedding.weight", 49408, width);
    for (int i = 0; i < layers; i++) {
        snprintf(at, sizeof at, "transformer.resblocks.%d", i);
        add_norm(c, below(at, ".ln_1"), width);
        ADD(c, below(at, ".attn.in_proj_weight"), 3 * width, width);
        ADD(c, below(at, ".attn.in_proj_bias"), 3 * width);
        LAYER(c, below(at, ".attn.out_proj"), width, width);
        add_norm(c, below(at, ".ln_2"), width);
        LAYER(c, below(at, ".mlp.c_fc"), 4 * width, width);
        LAYER(c, below(at, ".mlp.c_proj"), width, 4 * width);
    }
    add_norm(c, "ln_final", width);
}

static inline void add_clip(Checkpoint *c, const char *base, int width, int layers) {
    static const char *const layer[] = {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj",
                                        ".self_attn.out_proj"};
    char at[64];
    strcpy(c->base, base);
    add_tensor(c, "text_model.embeddings.position_ids", "I64", 8, 2, (long long[]){1, 77});
    ADD(c, "text_model.embeddings.position_embedding.weight", 77, width);
    ADD(c, "text_model.embeddings.token_embedding.weight", 49408, width);
    for (int i = 0; i < layers; i++) {
        snprintf(at, sizeof at, "text_model.encoder.layers.%d", i);
        add_norm(c, below(at, ".layer_norm1"), width);
        for (int j = 0; j < 4; j++) LAYER(c, below(at, layer[j]), width, width);
        add_norm(c, below(at, ".layer_norm2"), width);
        LAYER(c, below(at, ".mlp.fc1"), 4 * width, width);
        LAYER(c, below(at, ".mlp.fc2"), width, 4 * width);
    }
    add_norm(c, "text_model.final_layer_norm", width);
}

/* ---- the file ---- */

static inline void checkpoint_begin(Checkpoint *c) {
    *c = (Checkpoint){0};
    c->header = open_memstream(&c->text, &c->size);
    assert_non_null(c->header);
}

static inline void checkpoint_end(Checkpoint *c, const char *path) {
    fprintf(c->header, "}");
    fclose(c->header);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint64_t length = c->size;
    assert_int_equal(fwrite(&length, 8, 1, f), 1);
    assert_int_equal(fwrite(c->text, 1, c->size, f), c->size);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)(8 + c->size) + c->bytes), 0);
    free(c->text);
}

#endif
