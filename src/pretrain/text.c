/* Text: the classes of a caption from its states. See text.h. */
#include "pretrain/text.h"

#include <math.h>
#include <stdlib.h>

#include "model/clip_text.h"

enum { READOUT = 1 << 20 /* apart from the weights' own draws */ };

/* ---- opening ---- */
static int open_pass(TextTraining *t, Error *err) {
    const ClipTextConfig *c = &t->encoders->encoder[0].config;
    Build b;
    Value states = NULL;
    TRY(part_pass_begin(&t->part, &t->pass, &b, err));
    t->pass.in = input(b.g, "ids", DT_I32, shape2(t->part.options.batch, t->tokens));
    TRY(clip_text_build(&b, c, t->pass.in, &states, NULL));
    t->pass.out = linear(b.g, states, param(b.g, &t->readout), NULL);
    return part_pass_plan(&t->part, &t->pass, false, err);
}

static int open_readout(TextTraining *t, const ClipTextConfig *c, uint64_t seed, Error *err) {
    for (int k = 0; k < SCENE_ATTRIBUTES; k++) t->classes += scene_classes[k];
    const size_t n = (size_t)t->classes * (size_t)c->width;
    t->direction = malloc(n * sizeof *t->direction);
    if (!t->direction) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    rng_normal((RngKey){.seed = seed, .stream = RNG_START, .candidate = READOUT}, t->direction, n);
    for (size_t i = 0; i < n; i++) t->direction[i] /= sqrtf((float)c->width);
    t->readout =
        (Param){.name = "readout", .dtype = DT_F32, .shape = shape2(t->classes, c->width), .data = t->direction};
    return 0;
}

static int allocate(TextTraining *t, Error *err) {
    const size_t batch = (size_t)t->part.options.batch, rows = batch * (size_t)t->tokens;
    t->ids = malloc(rows * sizeof *t->ids);
    t->end = malloc((size_t)t->tokens * sizeof *t->end);
    t->first = malloc(batch * sizeof *t->first);
    t->said = malloc(batch * SCENE_ATTRIBUTES * sizeof *t->said);
    t->logits = malloc(rows * (size_t)t->classes * sizeof *t->logits);
    t->slope = malloc(rows * (size_t)t->classes * sizeof *t->slope);
    const bool all = t->ids && t->end && t->first && t->said && t->logits && t->slope;
    return all ? 0 : fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
}

int text_training_open(TextTraining *t, const TextEncoders *e, const PartOptions *o, Error *err) {
    *t = (TextTraining){.encoders = e, .tokens = e->tokens};
    int code = part_open(&t->part, e->encoder[0].weights, o, err);
    if (code >= 0) code = open_readout(t, &e->encoder[0].config, o->seed, err);
    if (code >= 0) code = open_pass(t, err);
    if (code >= 0) code = allocate(t, err);
    if (code < 0) text_training_close(t);
    return code;
}

void text_training_close(TextTraining *t) {
    part_pass_close(&t->pass);
    part_close(&t->part);
    void *const mine[] = {t->direction, t->ids, t->end, t->first, t->said, t->logits, t->slope};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) free(mine[i]);
    *t = (TextTraining){0};
}

/* ---- captions ---- */
static int draw_all(TextTraining *t, const Captions *captions, const size_t *index, Error *err) {
    for (int i = 0; i < t->part.options.batch; i++) {
        int32_t *ids = t->ids + (size_t)i * (size_t)t->tokens;
        TRY(text_encoders_tokenize(t->encoders, captions->list.items[index[i]].text, ids, NULL, NULL, err));
        clip_text_find_end(&t->encoders->encoder[0].config, ids, t->tokens, t->end);
        for (t->first[i] = 0; t->end[t->first[i]] == 0;) t->first[i]++;
        scene_attributes(captions->task[index[i]], t->said + (size_t)i * SCENE_ATTRIBUTES);
    }
    return 0;
}

int text_training_draw(TextTraining *t, const Captions *captions, long step, Error *err) {
    size_t *index = malloc((size_t)t->part.options.batch * sizeof *index);
    if (!index) return fail(err, DRPO_E_MEMORY, "text encoder: out of memory");
    prompt_order_pick(captions->order, step, t->part.options.batch, index);
    const int code = draw_all(t, captions, index, err);
    free(index);
    return code;
}

/* ---- the loss ---- */
/* Cross-entropy of n logits with class `is`, times `share`; the slope likewise. */
static double cross_entropy(const float *logit, int n, int is, double share, float *slope) {
    double most = (double)logit[0], sum = 0;
    for (int k = 1; k < n; k++) most = fmax(most, (double)logit[k]);
    for (int k = 0; k < n; k++) sum += exp((double)logit[k] - most);
    for (int k = 0; k < n; k++) slope[k] = (float)(share * (exp((double)logit[k] - most) / sum - (k == is)));
    return share * (log(sum) + most - (double)logit[is]);
}

static bool is_largest(const float *logit, int n, int is) {
    for (int k = 0; k < n; k++)
        if (k != is && logit[k] >= logit[is]) return false;
    return true;
}

/* One token; *read: every attribute is the largest of its logits. */
static double token_loss(const float *logit, const int *said, double share, float *slope, bool *read) {
    double loss = 0;
    *read = true;
    for (int k = 0; k < SCENE_ATTRIBUTES; k++) {
        loss += cross_entropy(logit, scene_classes[k], said[k], share, slope);
        *read = *read && is_largest(logit, scene_classes[k], said[k]);
        logit += scene_classes[k];
        slope += scene_classes[k];
    }
    return loss;
}

static void caption_losses(TextTraining *t, double *loss, double *right) {
    const int batch = t->part.options.batch;
    long rows = 0, read_all = 0;
    for (int i = 0; i < batch; i++) rows += t->tokens - t->first[i];
    for (size_t i = 0; i < (size_t)(batch * t->tokens * t->classes); i++) t->slope[i] = 0;
    *loss = 0;
    for (int i = 0; i < batch; i++) {
        bool read = false;
        for (int k = t->first[i]; k < t->tokens; k++) {
            const size_t at = (size_t)(i * t->tokens + k) * (size_t)t->classes;
            *loss += token_loss(t->logits + at, t->said + (size_t)i * SCENE_ATTRIBUTES, 1.0 / (double)rows,
                                t->slope + at, &read);
        }
        read_all += read;
    }
    *right = (double)read_all / batch;
}

int text_training_learn(TextTraining *t, double *loss, double *right, Error *err) {
    TRY(part_forward(&t->pass, t->ids, t->logits, err));
    caption_losses(t, loss, right);
    return part_backward(&t->part, &t->pass, t->slope, NULL, err);
}
