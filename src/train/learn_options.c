/* What is learned from scored candidates, as options say it: --method, --objective and their own options. */
#include <string.h>

#include "train/session.h"

/* Defaults of a method that differ from the table's. */
typedef struct MethodDefault {
    MethodKind method;
    OptionId option;
    const char *value;
} MethodDefault;

static const MethodDefault defaults[] = {
    {METHOD_GRPO, OPT_NEIGHBOUR_NOISE, "0.3"},
    {METHOD_GRPO, OPT_LATENT_L2, "0.02"},
};

int config_method_defaults(Config *c, Error *err) {
    int method = config_choice(c, OPT_METHOD);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if ((int)defaults[i].method == method)
            TRY(config_set(c, option_info(defaults[i].option)->key, defaults[i].value, SOURCE_DEFAULT, err));
    return 0;
}

static float number(const Config *c, OptionId id) { return (float)config_float(c, id); }

void session_learn_options(const Config *c, LearnOptions *out) {
    out->method = (MethodOptions){.kind = (MethodKind)config_choice(c, OPT_METHOD),
                                  .dpo_beta = number(c, OPT_DPO_BETA),
                                  .pso_beta = number(c, OPT_PSO_BETA),
                                  .pso_std = number(c, OPT_PSO_STD),
                                  .pso_clip = number(c, OPT_PSO_CLIP),
                                  .grpo_anchors = (int)config_int(c, OPT_GRPO_ANCHORS),
                                  .grpo_power = number(c, OPT_GRPO_POWER),
                                  .grpo_scale = number(c, OPT_GRPO_SCALE),
                                  .grpo_advantage_clip = number(c, OPT_GRPO_CLIP),
                                  .grpo_temperature = number(c, OPT_GRPO_TEMPERATURE),
                                  .draft_weight = number(c, OPT_DRAFT_WEIGHT),
                                  .draft_std = number(c, OPT_DRAFT_STD),
                                  .vgg_scale = number(c, OPT_VGG_SCALE),
                                  .vgg_quantile = number(c, OPT_VGG_QUANTILE),
                                  .seed = (uint64_t)config_int(c, OPT_SEED)};
    out->soft = (SoftOptions){.objective = (Objective)config_choice(c, OPT_OBJECTIVE),
                              .alpha = number(c, OPT_AWR_ALPHA),
                              .clip = number(c, OPT_AWR_CLIP),
                              .fraction = number(c, OPT_AWR_FRACTION),
                              .force = number(c, OPT_AWR_FORCE),
                              .weight = number(c, OPT_AWR_WEIGHT)};
    out->keep = (KeepOptions){.feature_l2 = number(c, OPT_FEATURE_L2),
                              .diversity = number(c, OPT_DIVERSITY),
                              .diversity_margin = number(c, OPT_DIVERSITY_MARGIN),
                              .anchor = number(c, OPT_ANCHOR),
                              .anchor_alpha = number(c, OPT_ANCHOR_ALPHA),
                              .anchor_clip = number(c, OPT_ANCHOR_CLIP),
                              .anchor_min = number(c, OPT_ANCHOR_MIN)};
}

/* Relative paths of pictures begin at the folder of the pairs file. */
int session_offline_options(const Config *c, Arena *a, OfflineOptions *out, Error *err) {
    const char *path = asset_find(config_text(c, OPT_PAIRS), a), *slash = path ? strrchr(path, '/') : NULL;
    *out = (OfflineOptions){.mode = (Mode)config_choice(c, OPT_MODE),
                            .folder = slash ? arena_printf(a, "%.*s", (int)(slash - path), path) : ".",
                            .sample = config_choice(c, OPT_PAIR_LATENTS) == 1,
                            .distance = {.score = (DistanceScore)config_choice(c, OPT_DISTANCE_SCORE),
                                         .normalize = config_choice(c, OPT_DISTANCE_NORMALIZE) == 0,
                                         .nearest = config_choice(c, OPT_DISTANCE_REDUCE) == 1,
                                         .sum_keys = config_choice(c, OPT_DISTANCE_KEYS) == 1},
                            .fraction = number(c, OPT_DISTANCE_FRACTION),
                            .anchors = config_bool(c, OPT_DISTANCE_ANCHORS),
                            .reliable = config_choice(c, OPT_CAPTIONS) == 1};
    return out->folder ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}
