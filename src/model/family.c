/* The two families of one-step generators: what their published folders say in their configuration files, for
 * checkpoints that come as one file. See single_file.h. */
#include <string.h>

#include "model/single_file.h"

typedef struct Document {
    const char *name, *text;
} Document;

/* clang-format off */
#define SCHEDULE(class) "{\"_class_name\": \"" class "\", \"beta_start\": 0.00085, \"beta_end\": 0.012, "              \
    "\"beta_schedule\": \"scaled_linear\", \"num_train_timesteps\": 1000, \"prediction_type\": \"epsilon\", "          \
    "\"timestep_spacing\": \"trailing\"}"

/* what both pipelines are made of, in diffusers' words */
#define PARTS(scheduler) "\"scheduler\": [\"diffusers\", \"" scheduler "\"], \"unet\": [\"diffusers\", "               \
    "\"UNet2DConditionModel\"], \"vae\": [\"diffusers\", \"AutoencoderKL\"], \"text_encoder\": [\"transformers\", "    \
    "\"CLIPTextModel\"], \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"]"

#define AUTOENCODER(scaling) "{\"_class_name\": \"AutoencoderKL\", \"in_channels\": 3, \"out_channels\": 3, "          \
    "\"latent_channels\": 4, \"sample_size\": 1024, \"block_out_channels\": [128, 256, 512, 512], "                    \
    "\"layers_per_block\": 2, \"norm_num_groups\": 32, \"act_fn\": \"silu\", \"force_upcast\": true, "                 \
    "\"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\", \"DownEncoderBlock2D\", "                  \
    "\"DownEncoderBlock2D\"], \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\", "                       \
    "\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"], \"scaling_factor\": " scaling "}"

/* what both UNets have */
#define UNET_COMMON "\"_class_name\": \"UNet2DConditionModel\", \"in_channels\": 4, \"out_channels\": 4, "             \
    "\"sample_size\": 64, \"layers_per_block\": 2, \"use_linear_projection\": true, \"norm_num_groups\": 32, "         \
    "\"norm_eps\": 1e-05, \"act_fn\": \"silu\", \"flip_sin_to_cos\": true, \"freq_shift\": 0, "                        \
    "\"downsample_padding\": 1, \"mid_block_type\": \"UNetMidBlock2DCrossAttn\", "

static const Document SD_TURBO[] = {
    {"model_index.json", "{\"_class_name\": \"StableDiffusionPipeline\", " PARTS("EulerDiscreteScheduler") "}"},
    {"scheduler/scheduler_config.json", SCHEDULE("EulerDiscreteScheduler")},
    {"vae/config.json", AUTOENCODER("0.18215")},
    {"unet/config.json", "{" UNET_COMMON
        "\"block_out_channels\": [320, 640, 1280, 1280], \"attention_head_dim\": [5, 10, 20, 20], "
        "\"cross_attention_dim\": 1024, "
        "\"down_block_types\": [\"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\", "
        "\"DownBlock2D\"], "
        "\"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\"]}"},
    {"text_encoder/config.json",
        "{\"architectures\": [\"CLIPTextModel\"], \"model_type\": \"clip_text_model\", \"vocab_size\": 49408, "
        "\"hidden_size\": 1024, \"intermediate_size\": 4096, \"num_hidden_layers\": 23, \"num_attention_heads\": 16, "
        "\"max_position_embeddings\": 77, \"projection_dim\": 512, \"hidden_act\": \"gelu\", "
        "\"layer_norm_eps\": 1e-05, \"eos_token_id\": 2}"},
    {0}};

static const Document SDXL_TURBO[] = {
    {"model_index.json",
        "{\"_class_name\": \"StableDiffusionXLPipeline\", \"force_zeros_for_empty_prompt\": true, "
        PARTS("EulerAncestralDiscreteScheduler") ", \"text_encoder_2\": [\"transformers\", "
        "\"CLIPTextModelWithProjection\"], \"tokenizer_2\": [\"transformers\", \"CLIPTokenizer\"]}"},
    {"scheduler/scheduler_config.json", SCHEDULE("EulerAncestralDiscreteScheduler")},
    {"vae/config.json", AUTOENCODER("0.13025")},
    {"unet/config.json", "{" UNET_COMMON
        "\"block_out_channels\": [320, 640, 1280], \"attention_head_dim\": [5, 10, 20], "
        "\"transformer_layers_per_block\": [1, 2, 10], \"cross_attention_dim\": 2048, "
        "\"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 256, "
        "\"projection_class_embeddings_input_dim\": 2816, "
        "\"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"], "
        "\"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"]}"},
    {"text_encoder/config.json",
        "{\"architectures\": [\"CLIPTextModel\"], \"model_type\": \"clip_text_model\", \"vocab_size\": 49408, "
        "\"hidden_size\": 768, \"intermediate_size\": 3072, \"num_hidden_layers\": 12, \"num_attention_heads\": 12, "
        "\"max_position_embeddings\": 77, \"projection_dim\": 768, \"hidden_act\": \"quick_gelu\", "
        "\"layer_norm_eps\": 1e-05, \"eos_token_id\": 2}"},
    {"text_encoder_2/config.json",
        "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"model_type\": \"clip_text_model\", "
        "\"vocab_size\": 49408, \"hidden_size\": 1280, \"intermediate_size\": 5120, \"num_hidden_layers\": 32, "
        "\"num_attention_heads\": 20, \"max_position_embeddings\": 77, \"projection_dim\": 1280, "
        "\"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-05, \"eos_token_id\": 2}"},
    {0}};
/* clang-format on */

const char *family_repository(Family f) {
    return f == FAMILY_SDXL_TURBO ? "stabilityai/sdxl-turbo" : "stabilityai/sd-turbo";
}

const char *family_document_name(Family f, int i) { return (f == FAMILY_SDXL_TURBO ? SDXL_TURBO : SD_TURBO)[i].name; }

const char *family_document(Family f, const char *name) {
    for (const Document *d = f == FAMILY_SDXL_TURBO ? SDXL_TURBO : SD_TURBO; d->name; d++)
        if (strcmp(d->name, name) == 0) return d->text;
    return NULL;
}
