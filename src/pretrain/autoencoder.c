/* Autoencoder: passes, loss and pictures. See autoencoder.h. */
#include "pretrain/autoencoder.h"

#include <math.h>
#include <stdlib.h>

#include "model/decode_pass.h"
#include "step/reward/scene.h"

enum { RGB = 3, UNSEEN = 1 << 20, JUDGED = 8 /* batches */ };
static const double SQUARE = 2, EDGE = .5, KL = 1e-3;

/* ---- opening ---- */
static int open_encoder(Autoencoder *a, const VaeConfig *c, Error *err) {
    Build b;
    TRY(part_pass_begin(&a->part, &a->encode, &b, err));
    a->encode.in = input(b.g, "image", DT_F32, shape4(a->part.options.batch, RGB, a->side, a->side));
    a->encode.out = vae_encode(&b, c, a->encode.in);
    return part_pass_plan(&a->part, &a->encode, false, err);
}

static int open_decoder(Autoencoder *a, const VaeConfig *c, Error *err) {
    Build b;
    TRY(part_pass_begin(&a->part, &a->decode, &b, err));
    a->decode.in =
        input(b.g, "latents", DT_F32, shape4(a->part.options.batch, a->channels, a->latent_side, a->latent_side));
    a->decode.out = vae_decode(&b, c, a->decode.in);
    return part_pass_plan(&a->part, &a->decode, true, err);
}

static int allocate(Autoencoder *a, Error *err) {
    float **const of_pixels[] = {&a->picture, &a->y}, **const of_latents[] = {&a->noise, &a->z, &a->dz};
    bool all = true;
    for (int i = 0; i < 2; i++) all = (*of_pixels[i] = malloc(a->pixels * sizeof(float))) && all;
    for (int i = 0; i < 3; i++) all = (*of_latents[i] = malloc(a->latents * sizeof(float))) && all;
    a->moments = malloc(2 * a->latents * sizeof(float));
    a->dm = malloc(2 * a->latents * sizeof(float));
    return all && a->moments && a->dm ? 0 : fail(err, DRPO_E_MEMORY, "autoencoder: out of memory");
}

int autoencoder_open(Autoencoder *a, const VaeConfig *c, const Weights *like, const PartOptions *o, Error *err) {
    *a = (Autoencoder){.side = SCENE_SIDE, .latent_side = SCENE_SIDE / vae_factor(c), .channels = c->latent_channels};
    const size_t batch = (size_t)o->batch;
    a->pixels = batch * RGB * SCENE_SIDE * SCENE_SIDE;
    a->latents = batch * (size_t)(a->channels * a->latent_side * a->latent_side);
    int code = part_open(&a->part, like, o, err);
    if (code >= 0) code = open_encoder(a, c, err);
    if (code >= 0) code = open_decoder(a, c, err);
    if (code >= 0) code = allocate(a, err);
    if (code < 0) autoencoder_close(a);
    return code;
}

void autoencoder_close(Autoencoder *a) {
    part_pass_close(&a->encode);
    part_pass_close(&a->decode);
    part_close(&a->part);
    float *const mine[] = {a->picture, a->noise, a->moments, a->z, a->y, a->dz, a->dm};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) free(mine[i]);
    *a = (Autoencoder){0};
}

/* ---- pictures ---- */
/* Which captions: index [batch]. */
static int draw_batch(Autoencoder *a, const Captions *captions, long step, size_t *index, Error *err) {
    const PartOptions *o = &a->part.options;
    const size_t picture = a->pixels / (size_t)o->batch;
    prompt_order_pick(captions->order, step, o->batch, index);
    for (int i = 0; i < o->batch; i++) {
        float noise[SCENE_CHANNELS * SCENE_NOISE * SCENE_NOISE];
        rng_normal((RngKey){o->seed, RNG_SCENES, (uint32_t)step, 0, (uint32_t)i}, noise, sizeof noise / sizeof *noise);
        TRY(scene_planes(captions->task[index[i]], noise, false, a->picture + (size_t)i * picture, err));
    }
    rng_normal((RngKey){o->seed, RNG_SCENES, (uint32_t)step, 1, 0}, a->noise, a->latents);
    return 0;
}

int autoencoder_draw(Autoencoder *a, const Captions *captions, long step, Error *err) {
    size_t *index = malloc((size_t)a->part.options.batch * sizeof *index);
    if (!index) return fail(err, DRPO_E_MEMORY, "autoencoder: out of memory");
    const int code = draw_batch(a, captions, step, index, err);
    free(index);
    return code;
}

/* ---- the loss ---- */
static double sign(double x) { return (x > 0) - (x < 0); }

/* Edges of d = y - x along one direction: neighbours lie `stride` apart, `last` of a row or column has none. */
static double edges(const float *x, const float *y, size_t i, size_t stride, double share, float *slope) {
    const double e = ((double)y[i + stride] - (double)x[i + stride]) - ((double)y[i] - (double)x[i]);
    slope[i + stride] += (float)(share * sign(e));
    slope[i] -= (float)(share * sign(e));
    return share * fabs(e);
}

/* slope: d(loss)/d(y) */
static double picture_loss(const float *x, const float *y, size_t planes, int side, float *slope) {
    const size_t width = (size_t)side, n = planes * width * width;
    const double share = EDGE / (double)(planes * width * (width - 1));
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)y[i] - (double)x[i];
        loss += (fabs(d) + SQUARE * d * d) / (double)n;
        slope[i] = (float)((sign(d) + 2 * SQUARE * d) / (double)n);
    }
    for (size_t i = 0; i < n; i++) {
        if (i % width + 1 < width) loss += edges(x, y, i, 1, share, slope);
        if (i / width % width + 1 < width) loss += edges(x, y, i, width, share, slope);
    }
    return loss;
}

/* Numbers of one picture's mean; its logarithms of variances follow them. */
static size_t mean_of(const Autoencoder *a, size_t i) {
    const size_t one = a->latents / (size_t)a->part.options.batch;
    return i / one * 2 * one + i % one;
}

static void sample(Autoencoder *a) {
    const size_t one = a->latents / (size_t)a->part.options.batch;
    for (size_t i = 0; i < a->latents; i++) {
        const float *mean = a->moments + mean_of(a, i);
        a->z[i] = mean[0] + expf(mean[one] / 2) * a->noise[i];
    }
}

/* From d(loss)/dz to d(loss)/d(moments), with the divergence; returns the latter. */
static double moments_loss(Autoencoder *a) {
    const size_t one = a->latents / (size_t)a->part.options.batch;
    const double share = KL / 2 / (double)a->latents;
    double loss = 0;
    for (size_t i = 0; i < a->latents; i++) {
        const size_t m = mean_of(a, i), v = m + one;
        const double mean = (double)a->moments[m], logvar = (double)a->moments[v], variance = exp(logvar);
        loss += share * (mean * mean + variance - 1 - logvar);
        a->dm[m] = (float)((double)a->dz[i] + share * 2 * mean);
        a->dm[v] = (float)((double)a->dz[i] * (double)a->noise[i] * sqrt(variance) / 2 + share * (variance - 1));
    }
    return loss;
}

int autoencoder_learn(Autoencoder *a, double *loss, Error *err) {
    float *slope = malloc(a->pixels * sizeof *slope);
    if (!slope) return fail(err, DRPO_E_MEMORY, "autoencoder: out of memory");
    int code = part_forward(&a->encode, a->picture, a->moments, err);
    if (code >= 0) {
        sample(a);
        code = part_forward(&a->decode, a->z, a->y, err);
    }
    if (code >= 0) {
        *loss = picture_loss(a->picture, a->y, (size_t)a->part.options.batch * RGB, a->side, slope);
        code = part_backward(&a->part, &a->decode, slope, a->dz, err);
    }
    free(slope);
    TRY(code);
    *loss += moments_loss(a);
    return part_backward(&a->part, &a->encode, a->dm, NULL, err);
}

/* ---- what has been learnt ---- */
typedef struct Judgement {
    double sum, squares;
    long latents, right, pictures;
} Judgement;

static void judge_latents(const Autoencoder *a, Judgement *j) {
    for (size_t i = 0; i < a->latents; i++) {
        const double mean = (double)a->z[i];
        j->sum += mean;
        j->squares += mean * mean;
    }
    j->latents += (long)a->latents;
}

static int judge_picture(const Autoencoder *a, int i, const SceneTask *task, Judgement *j, Error *err) {
    enum { PLANE = SCENE_SIDE * SCENE_SIDE };
    uint8_t rgb[PLANE * RGB];
    SceneVerdict verdict;
    planes_to_rgb(a->y + (size_t)i * PLANE * RGB, PLANE, rgb);
    TRY(scene_verify(task, rgb, SCENE_SIDE, SCENE_SIDE, &verdict, err));
    j->right += verdict.correct;
    j->pictures++;
    return 0;
}

static int judge_batch(Autoencoder *a, const Captions *captions, long step, size_t *index, Judgement *j, Error *err) {
    TRY(draw_batch(a, captions, step, index, err));
    TRY(part_forward(&a->encode, a->picture, a->moments, err));
    for (size_t i = 0; i < a->latents; i++) a->z[i] = a->moments[mean_of(a, i)];
    judge_latents(a, j);
    TRY(part_forward(&a->decode, a->z, a->y, err));
    for (int i = 0; i < a->part.options.batch; i++) TRY(judge_picture(a, i, captions->task[index[i]], j, err));
    return 0;
}

int autoencoder_judge(Autoencoder *a, const Captions *captions, double *scaling, double *right, Error *err) {
    size_t *index = malloc((size_t)a->part.options.batch * sizeof *index);
    if (!index) return fail(err, DRPO_E_MEMORY, "autoencoder: out of memory");
    Judgement j = {0};
    int code = 0;
    for (int i = 0; i < JUDGED && code >= 0; i++) code = judge_batch(a, captions, UNSEEN + i, index, &j, err);
    free(index);
    TRY(code);
    const double mean = j.sum / (double)j.latents, variance = j.squares / (double)j.latents - mean * mean;
    if (!(variance > 0))
        return fail(err, DRPO_E_NUMERIC, "the autoencoder's latents are all alike; give it more --vae-steps");
    *scaling = 1 / sqrt(variance);
    *right = (double)j.right / (double)j.pictures;
    return 0;
}
