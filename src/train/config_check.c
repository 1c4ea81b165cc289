/* Config: checks that need more than one option, or a look at the disk. Nothing has been opened yet. See config.h. */
#include <string.h>

#include "base/file.h"
#include "step/losses.h"
#include "step/method/method.h"
#include "train/config.h"
#include "train/prompt_order.h"
#include "train/session.h"
#include "train/stop_rules.h"

static int check_update(const Config *c, Error *err) {
    long long k = config_int(c, OPT_CANDIDATES), p = config_int(c, OPT_POSITIVES), n = config_int(c, OPT_NEGATIVES);
    int method = config_choice(c, OPT_METHOD), objective = config_choice(c, OPT_OBJECTIVE);
    if (method == METHOD_PSO && k % 2)
        return fail(err, DRPO_E_USAGE, "--method pso compares candidates in pairs: --candidates %lld is odd", k);
    if (method == METHOD_GRPO && config_int(c, OPT_GRPO_ANCHORS) > k)
        return fail(err, DRPO_E_USAGE, "--grpo-anchors %lld is more than --candidates %lld",
                    config_int(c, OPT_GRPO_ANCHORS), k);
    if (method != METHOD_DRPO && objective != OBJECTIVE_BINARY)
        return fail(err, DRPO_E_USAGE, "--objective %s is a variant of --method drpo, not of %s",
                    config_text(c, OPT_OBJECTIVE), config_text(c, OPT_METHOD));
    if (method == METHOD_DRAFT && config_float(c, OPT_DRAFT_WEIGHT) == 0 && config_float(c, OPT_DRAFT_STD) == 0)
        return fail(err, DRPO_E_USAGE, "--draft-weight and --draft-std are both 0: nothing would be learnt");
    if (config_bool(c, OPT_SPREAD_WEIGHT) && (method == METHOD_DRAFT || method == METHOD_VGGFLOW))
        return fail(err, DRPO_E_USAGE, "--spread-weight has no part in --method %s, which chooses no candidates",
                    config_text(c, OPT_METHOD));
    if (config_float(c, OPT_PSO_CLIP) >= 1) return fail(err, DRPO_E_USAGE, "--pso-clip must be less than 1");
    LearnOptions learn;
    session_learn_options(c, &learn);
    if (losses_rank(&learn) && k < p + n)
        return fail(err, DRPO_E_USAGE, "--candidates %lld is fewer than --positives %lld plus --negatives %lld", k, p,
                    n);
    int radii = config_count(c, OPT_RADII);
    if (radii < 1 || radii > MAX_RADII)
        return fail(err, DRPO_E_USAGE, "--radii: %d numbers, there must be 1 to %d", radii, MAX_RADII);
    if (config_choice(c, OPT_TRAINED) == 1 && config_float(c, OPT_LORA_DROPOUT) > 0)
        return fail(err, DRPO_E_USAGE, "--lora-dropout has no part in --train full, which has no LoRA");
    if (config_count(c, OPT_LORA_TARGETS) == 0) return fail(err, DRPO_E_USAGE, "--lora-targets names no layer");
    if (config_float(c, OPT_W_POS) == 0 && config_float(c, OPT_W_NEG) == 0)
        return fail(err, DRPO_E_USAGE, "--w-pos and --w-neg are both 0: nothing would be learnt");
    if (config_int(c, OPT_PROMPTS_PER_STEP) * config_int(c, OPT_ACCUMULATE) > 65536)
        return fail(err, DRPO_E_USAGE, "--prompts-per-step times --accumulate is more than 65536");
    return prompt_order_check(config_text(c, OPT_PROMPT_ORDER), err);
}

static int check_mode(const Config *c, Error *err) {
    const int mode = config_choice(c, OPT_MODE);
    const bool online = mode == MODE_ONLINE, scenes = mode == MODE_SCENES, pairs = config_text(c, OPT_PAIRS)[0] != 0;
    if ((online || scenes) && pairs)
        return fail(err, DRPO_E_USAGE, "--pairs has no part in --mode %s; give --mode offline or offline-distance",
                    config_text(c, OPT_MODE));
    if (online) return 0;
    if (scenes && config_float(c, OPT_LAMBDA_REF) == 0 && config_float(c, OPT_LATENT_L2) == 0)
        return fail(err, DRPO_E_USAGE,
                    "--mode scenes learns by --lambda-ref (drift) and --latent-l2 (pairs): both are 0");
    if (!pairs && !scenes)
        return fail(err, DRPO_E_USAGE, "--mode %s learns from given pictures: name them with --pairs FILE",
                    config_text(c, OPT_MODE));
    if (config_choice(c, OPT_METHOD) != METHOD_DRPO)
        return fail(err, DRPO_E_USAGE, "--mode %s is a mode of --method drpo, not of %s", config_text(c, OPT_MODE),
                    config_text(c, OPT_METHOD));
    if (config_choice(c, OPT_OBJECTIVE) != OBJECTIVE_BINARY)
        return fail(err, DRPO_E_USAGE, "--mode %s knows good and bad pictures, no scores: --objective must be binary",
                    config_text(c, OPT_MODE));
    return 0;
}

static int check_pools(const Config *c, Error *err) {
    static const OptionId own[] = {OPT_ROUNDS, OPT_POSITIVES_MIN, OPT_OPTIMIZE};
    if (config_bool(c, OPT_POOLS)) {
        if (config_choice(c, OPT_MODE) != MODE_ONLINE)
            return fail(err, DRPO_E_USAGE, "--pools needs verdicts, so --mode must be online");
        if (config_choice(c, OPT_METHOD) != METHOD_DRPO || config_choice(c, OPT_OBJECTIVE) != OBJECTIVE_BINARY)
            return fail(err, DRPO_E_USAGE, "--pools is for --method drpo with --objective binary");
        if (config_count(c, OPT_REWARD) > 1)
            return fail(err, DRPO_E_USAGE, "--pools is for one --reward of 0 and 1, not for an ensemble of %d",
                        config_count(c, OPT_REWARD));
        if (config_float(c, OPT_MIN_SPREAD) > 0)
            return fail(err, DRPO_E_USAGE, "--min-spread %s is for rankings; --pools choose by verdicts of 0 and 1",
                        config_text(c, OPT_MIN_SPREAD));
        if (config_int(c, OPT_POSITIVES_MIN) > config_int(c, OPT_POSITIVES))
            return fail(err, DRPO_E_USAGE, "--positives-min %lld is more than --positives %lld",
                        config_int(c, OPT_POSITIVES_MIN), config_int(c, OPT_POSITIVES));
        if (config_choice(c, OPT_RNG) == 1 && config_int(c, OPT_ROUNDS) > 1 &&
            !(config_has(c, OPT_NOISE) && config_text(c, OPT_NOISE)[0]))
            return fail(
                err, DRPO_E_USAGE,
                "--pools with --rng torch needs --rounds 1: torch.Generator(\"cpu\") has no way back to a prompt");
        return 0;
    }
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (config_source(c, own[i]) == SOURCE_FLAG)
            return fail(err, DRPO_E_USAGE, "--%s belongs to --pools, which is off", option_info(own[i])->key);
    return 0;
}

/* A file that an option names must be there. */
static int check_file(const Config *c, OptionId id, Error *err) {
    if (!config_has(c, id)) return 0;
    const char *path = config_text(c, id);
    if (path[0] == 0 || file_exists(path)) return 0;
    return fail(err, DRPO_E_INPUT, "--%s %s: no such file", option_info(id)->key, path);
}

static int check_rewards(const Config *c, Error *err) {
    if (config_count(c, OPT_REWARD) == 0) return fail(err, DRPO_E_USAGE, "--reward is missing");
    return 0;
}

static int check_reward_decoder(const Config *c, Error *err) {
    static const char kind[] = "taesd:";
    const char *spec = config_text(c, OPT_REWARD_DECODER);
    LearnOptions learn;
    session_learn_options(c, &learn);
    if (spec[0] == 0) return 0;
    if (strncmp(spec, kind, sizeof kind - 1) != 0 || spec[sizeof kind - 1] == 0)
        return fail(err, DRPO_E_USAGE, "--reward-decoder '%s': write taesd:PATH, or leave it out for the full decoder",
                    spec);
    if (config_choice(c, OPT_MODE) != MODE_ONLINE)
        return fail(err, DRPO_E_USAGE, "--reward-decoder has no part in --mode %s, which scores no pictures",
                    config_text(c, OPT_MODE));
    if (method_differentiates(&learn.method))
        return fail(err, DRPO_E_USAGE,
                    "--reward-decoder is not for --method %s, which follows the reward through the full decoder",
                    config_text(c, OPT_METHOD));
    return 0;
}

static int check_run(const Config *c, Error *err) {
    if (config_bool(c, OPT_OVERWRITE) && config_text(c, OPT_RESUME)[0])
        return fail(err, DRPO_E_USAGE, "--resume continues a run and --overwrite deletes it: give one of them");
    if (strcmp(config_text(c, OPT_RESUME), "latest") == 0 && config_text(c, OPT_RUN)[0] == 0)
        return fail(err, DRPO_E_USAGE, "--resume latest needs --out RUN");
    return 0;
}

int config_check(const Config *c, Error *err) {
    if (config_has(c, OPT_CANDIDATES)) TRY(check_update(c, err));
    if (config_has(c, OPT_MODE)) TRY(check_mode(c, err));
    if (config_has(c, OPT_POOLS)) TRY(check_pools(c, err));
    if (config_has(c, OPT_REWARD)) TRY(check_rewards(c, err));
    if (config_has(c, OPT_REWARD_DECODER)) TRY(check_reward_decoder(c, err));
    if (config_has(c, OPT_RESUME)) TRY(check_run(c, err));
    StopRules rules;
    if (config_has(c, OPT_STOP_WHEN)) TRY(stop_rules_open(c, &rules, err));
    TRY(check_file(c, OPT_NOISE, err));
    TRY(check_file(c, OPT_MANIFEST, err));
    drpo_verb verb = config_verb(c);
    if (verb == DRPO_SAMPLE && config_count(c, OPT_PROMPT) == 0 && config_text(c, OPT_SAMPLE_FILE)[0] == 0)
        return fail(err, DRPO_E_USAGE, "nothing to draw: give --prompt TEXT or --prompts FILE");
    if (verb == DRPO_SCORE && config_count(c, OPT_IMAGES) == 0 && config_text(c, OPT_MANIFEST)[0] == 0)
        return fail(err, DRPO_E_USAGE, "nothing to score: give IMAGE files or --manifest FILE");
    static const OptionId one[] = {OPT_INSPECTED, OPT_EXPORTED, OPT_REPORTED, OPT_REPLAYED};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        if (config_has(c, one[i]) && config_count(c, one[i]) != 1)
            return fail(err, DRPO_E_USAGE, "'drpo %s' takes one %s, not %d", verb_name(verb),
                        option_info(one[i])->metavar, config_count(c, one[i]));
    return 0;
}
