/* The kinds of reward there are, in the order in which `drpo rewards` shows them. */
#include "step/reward/reward_internal.h"

static const RewardKind *const kinds[] = {
    &scene_kind, &scene_correct_kind, &scene_smooth_kind, &exec_kind,      &http_kind,
    &https_kind, &plugin_kind,        &callback_kind,     &clipscore_kind, &pickscore_kind,
    &hpsv2_kind, &aesthetic_kind,     &geneval_kind,      &hpsv3_kind,     &imagereward_kind,
};

const RewardKind *reward_kind(int i) { return i < (int)(sizeof kinds / sizeof *kinds) ? kinds[i] : NULL; }
