/* geneval: 1 for a picture that shows what its prompt asks for, else 0. A worker finds the objects, the rule decides.
 *
 * The worker may be the benchmark's own (it answers with verdicts) or any detector (it answers with objects, whose
 * colors CLIP can name). In the update: decode -> reward. */
#include "step/reward/geneval_reward.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/reward/exec_pool.h"
#include "step/reward/geneval_clip.h"
#include "step/reward/geneval_reply.h"

enum { REPLY_BYTES = 256 << 20 }; /* masks are long */

typedef struct GenevalState {
    ExecPool *pool;
    GenevalClip *clip; /* NULL: colors are the detector's business */
    GenevalOptions options;
} GenevalState;

static int detect(Reward *r, const Prompt *prompt, const Pictures *pictures, GenevalReply *reply, Error *err) {
    const GenevalState *s = r->state;
    const ReplyReader reader = {geneval_reply_read, reply};
    return exec_pool_ask(s->pool, prompt, pictures, &reader, err);
}

/* ---- one picture ---- */

static int write_details(const GenevalKept *kept, char **out, Error *err) {
    json_t *root = json_object();
    int bad = !root;
    for (int class = 0; class < GENEVAL_CLASSES; class ++) {
        if (kept->first[class] == kept->first[class + 1]) continue;
        json_t *list = json_array();
        for (int k = kept->first[class]; k < kept->first[class + 1]; k++) {
            const GenevalObject *o = kept->object[k];
            bad |= json_array_append_new(
                list, json_pack("[f, f, f, f, f]", o->box[0], o->box[1], o->box[2], o->box[3], o->score));
        }
        bad |= json_object_set_new(root, geneval_class_name[class], list);
    }
    *out = bad ? NULL : json_dumps(root, 0);
    json_decref(root);
    return *out ? 0 : fail(err, DRPO_E_MEMORY, "no memory for the details of a picture");
}

static int judge_picture(const GenevalState *s, const GenevalTask *task, const GenevalFound *found, GenevalView *view,
                         bool details, GenevalResult *out, Error *err) {
    GenevalKept kept;
    TRY(geneval_keep(task, &s->options, found->object, found->count, &kept, err));
    int code = geneval_judge(task, &s->options, &kept, s->clip ? geneval_clip_colors : NULL, view, &out->verdict, err);
    if (code == 0 && details) code = write_details(&kept, &out->details, err);
    geneval_kept_free(&kept);
    return code < 0 ? fail_in(err, "reward geneval") : 0;
}

static int judge(Reward *r, const Prompt *prompt, const Pictures *pictures, bool details, Arena *a,
                 GenevalResult *results, Error *err) {
    const GenevalState *s = r->state;
    const size_t size = (size_t)pictures->height * (size_t)pictures->width * 3;
    GenevalTask task;
    GenevalReply reply;
    TRY(geneval_task_parse(prompt->metadata, &task, err));
    TRY(geneval_reply_new(pictures, a, &reply, err));
    TRY(detect(r, prompt, pictures, &reply, err));
    for (int k = 0; k < pictures->count; k++) {
        GenevalView view = {s->clip, pictures->rgb + (size_t)k * size, pictures->height, pictures->width};
        if (reply.detected)
            TRY(judge_picture(s, &task, &reply.found[k], &view, details, &results[k], err));
        else
            results[k].verdict = (GenevalVerdict){.correct = reply.scores[k] >= 0.5f};
    }
    return 0;
}

static int judge_all(Reward *r, const Prompt *prompt, const Pictures *pictures, bool details, GenevalResult *results,
                     Error *err) {
    Arena *a = arena_new();
    const int code = a ? judge(r, prompt, pictures, details, a, results, err)
                       : fail(err, DRPO_E_MEMORY, "no memory for GenEval's verdicts");
    arena_free(a);
    return code;
}

int geneval_reward_judge(Reward *r, const Prompt *prompt, const Pictures *pictures, GenevalResult *results,
                         Error *err) {
    for (int attempt = 0;; attempt++) {
        for (int k = 0; k < pictures->count; k++) results[k] = (GenevalResult){0};
        error_clear(err);
        const int code = judge_all(r, prompt, pictures, true, results, err);
        if (code != DRPO_E_REWARD || attempt >= r->retries) return code;
        for (int k = 0; k < pictures->count; k++) free(results[k].details);
    }
}

/* ---- the reward ---- */

static int geneval_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    GenevalResult *results = calloc((size_t)pictures->count, sizeof *results);
    if (!results) return fail(err, DRPO_E_MEMORY, "no memory for GenEval's verdicts");
    const int code = judge_all(r, prompt, pictures, false, results, err);
    for (int k = 0; k < pictures->count && code == 0; k++) scores[k] = results[k].verdict.correct;
    free(results);
    return code;
}

bool geneval_reward_is(const Reward *r) { return r->score == geneval_score; }

static void geneval_destroy(Reward *r) {
    GenevalState *s = r->state;
    exec_pool_close(s->pool);
    geneval_clip_free(s->clip);
    free(s);
}

static int open_clip(const RewardSpec *spec, GenevalState *s, Error *err) {
    const char *activation = reward_text(spec, "activation");
    const ClipChoice choice = {.path = reward_text(spec, "clip"),
                               .tokenizer = reward_text(spec, "tokenizer"),
                               .activation = strcmp(activation, "auto") == 0 ? "" : activation,
                               .texts = true,
                               .get = "openai/clip-vit-large-patch14"};
    if (!*choice.path) return 0;
    const int code = geneval_clip_open(&choice, (int)reward_number(spec, "threads"), &s->clip, err);
    return code < 0 ? fail_in(err, "reward geneval, clip=") : 0;
}

static int open_state(const RewardSpec *spec, GenevalState *s, Error *err) {
    s->options = (GenevalOptions){.threshold = reward_number(spec, "threshold"),
                                  .counting_threshold = reward_number(spec, "counting_threshold"),
                                  .max_overlap = reward_number(spec, "max_overlap"),
                                  .position_threshold = reward_number(spec, "position_threshold"),
                                  .max_objects = (int)reward_number(spec, "max_objects")};
    TRY(open_clip(spec, s, err));
    return exec_pool_open(spec, REPLY_BYTES, &s->pool, err);
}

static int geneval_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    Reward *r = reward_new(spec, "geneval");
    GenevalState *s = calloc(1, sizeof *s);
    const int code = r && s ? open_state(spec, s, err)
                            : fail(err, DRPO_E_MEMORY, "no memory for the reward geneval:%.200s", spec->argument);
    if (code < 0) {
        if (s) geneval_clip_free(s->clip);
        free(r);
        free(s);
        return code;
    }
    r->state = s;
    r->needs_metadata = true;
    r->lanes = exec_pool_workers(s->pool);
    r->score = geneval_score;
    r->destroy = geneval_destroy;
    *out = r;
    return 0;
}

static const RewardOption options[] = {
    EXEC_POOL_OPTIONS("300", "600"),
    {"threshold", REWARD_NUMBER, "0.3", "", "an object counts when its score exceeds this"},
    {"counting_threshold", REWARD_NUMBER, "0.9", "", "the same for prompts of the tag counting"},
    {"max_objects", REWARD_COUNT, "16", "1..1000", "most objects of one class, the surest"},
    {"max_overlap", REWARD_NUMBER, "1", "", "IoU at which the less sure of two objects is dropped; 1: never"},
    {"position_threshold", REWARD_NUMBER, "0.1", "", "share of both objects' sizes that an offset must exceed"},
    {"clip", REWARD_TEXT, "", "",
     "CLIP (ViT-L/14): folder, file or repository id; names colors the detector leaves out"},
    {"tokenizer", REWARD_TEXT, "", "", "folder of its tokenizer; without it beside the weights, or in the cache"},
    {"activation", REWARD_CHOICE, "auto", "auto|gelu|quick_gelu", "of CLIP; for files whose shapes do not tell it"},
    {"threads", REWARD_COUNT, "0", "0..256", "threads of CLIP; 0: as many as there are cores"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind geneval_kind = {
    .name = "geneval",
    .argument = "COMMAND",
    .scores = "GenEval's verdict: whether objects, counts, colors and positions are as the prompt says",
    .needs = "a detector: a command that answers with objects or with verdicts (docs/geneval.md); GenEval's prompts",
    .range = "0 or 1",
    .licence = "rule: drpo's own; prompts and CLIP: MIT; the detector's own",
    .weights = "the detector's own (benchmark: Mask2Former Swin-S, Apache-2.0); ?clip=: openai/clip-vit-large-patch14",
    .options = options,
    .retries = 2,
    .open = geneval_open,
};
