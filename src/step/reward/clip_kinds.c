/* CLIPScore, PickScore and HPSv2: how near a picture's embedding is to its prompt's.
 *
 *     score = i . t / (|i| |t|)        norms at least 1e-12
 *
 * The same network three times; what differs is who trained it on what. */
#include <math.h>

#include "step/reward/clip_reward.h"

static double at_least(double norm) { return norm > 1e-12 ? norm : 1e-12; }

/* d(score)/d(i) = (t / |t| - score i / |i|) / |i| */
static double cosine(const ClipReward *c, const float *image, const float *text, float *gradient) {
    double ii = 0, tt = 0, it = 0;
    const int n = c->model.config.projection;
    for (int k = 0; k < n; k++) {
        ii += (double)image[k] * image[k];
        tt += (double)text[k] * text[k];
        it += (double)image[k] * text[k];
    }
    const double i = at_least(sqrt(ii)), t = at_least(sqrt(tt)), score = it / i / t;
    for (int k = 0; gradient && k < n; k++) gradient[k] = (float)((text[k] / t - score * image[k] / i) / i);
    return score;
}

static int open_cosine(const RewardSpec *spec, CropRule crop, const char *get, Reward **out, Error *err) {
    TRY(clip_reward_open(spec, true, crop, get, out, err));
    ClipReward *c = (*out)->state;
    c->rate = cosine;
    return 0;
}

static int clipscore_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    return open_cosine(spec, CROP_FLOOR, "openai/clip-vit-large-patch14", out, err);
}

static int pickscore_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    return open_cosine(spec, CROP_FLOOR, "yuvalkirstain/PickScore_v1", out, err);
}

static int hpsv2_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    return open_cosine(spec, CROP_ROUND, "xswu/HPSv2 HPS_v2.1_compressed.pt", out, err);
}

static const RewardOption options[] = {
    {"tokenizer", REWARD_TEXT, "", "", "folder of CLIP's tokenizer; without it beside the weights, or in the cache"},
    {"scale", REWARD_NUMBER, "1", "", "factor of the score: 100 gives the numbers that papers print"},
    {"threads", REWARD_COUNT, "0", "0..256", "threads of the network; 0: as many as there are cores"},
    {"activation", REWARD_CHOICE, "auto", "auto|gelu|quick_gelu", "for a file of weights whose shapes do not tell it"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind clipscore_kind = {
    .name = "clipscore",
    .argument = "PATH",
    .scores = "how well a picture fits its prompt: the cosine of their CLIP embeddings",
    .needs = "a CLIP model (ViT-L/14, ViT-H/14, any CLIPModel): folder, file or repository id in the cache",
    .range = "-1 to 1; L/14 about 0.20 to 0.30 for pictures that fit, below 0.17 for others",
    .licence = "MIT (OpenAI's and LAION's models)",
    .networks = true,
    .weights = "hf download openai/clip-vit-large-patch14",
    .options = options,
    .open = clipscore_open,
};

const RewardKind pickscore_kind = {
    .name = "pickscore",
    .argument = "PATH",
    .scores = "which of several pictures people would pick for the prompt (PickScore v1)",
    .needs = "its CLIP ViT-H/14: folder, file or repository id in the cache",
    .range = "-1 to 1, usually 0.15 to 0.25; x100 in papers",
    .licence = "MIT (code); the weights state none",
    .networks = true,
    .weights = "hf download yuvalkirstain/PickScore_v1",
    .options = options,
    .open = pickscore_open,
};

const RewardKind hpsv2_kind = {
    .name = "hpsv2",
    .argument = "PATH",
    .scores = "human preference score v2 or v2.1, whichever the file holds; their numbers are not comparable",
    .needs = "the authors' checkpoint as it is (.pt, read without executing it), and CLIP's tokenizer",
    .range = "-1 to 1, usually 0.20 to 0.33; x100 in papers",
    .licence = "Apache-2.0",
    .networks = true,
    .weights = "hf download xswu/HPSv2 HPS_v2.1_compressed.pt",
    .options = options,
    .open = hpsv2_open,
};
