/* LAION's aesthetic predictor v2: how beautiful a picture is, whatever its prompt.
 *
 *     score = W7 (W6 (W4 (W2 (W0 i/|i| + b0) + b2) + b4) + b6) + b7,   i: CLIP ViT-L/14's embedding of the picture
 *
 * There is no activation between the layers, so the gradient is one row: d(score)/d(i/|i|) = W7 W6 W4 W2 W0. */
#include <math.h>
#include <stdlib.h>

#include "step/reward/clip_reward.h"

enum { LAYERS = 5 };
static const int PLACE[LAYERS] = {0, 2, 4, 6, 7}; /* dropout stands between */

typedef struct Head {
    float *weight[LAYERS], *bias[LAYERS]; /* [out,in], [out] */
    int size[LAYERS + 1];                 /* of the embedding, after each layer */
    double *row;                          /* [size[0]] */
    double *work;                         /* two vectors of the largest size */
    int largest;
} Head;

static void head_free(void *head) {
    Head *h = head;
    if (!h) return;
    for (int i = 0; i < LAYERS; i++) {
        free(h->weight[i]);
        free(h->bias[i]);
    }
    free(h->row);
    free(h->work);
    free(h);
}

static int read_values(const Param *p, float **out, Error *err) {
    const size_t n = (size_t)shape_count(p->shape);
    *out = malloc(n * sizeof **out);
    if (!*out) return fail(err, DRPO_E_MEMORY, "out of memory for the aesthetic predictor's head");
    dtype_to_f32(p->dtype, p->data, 0, n, *out);
    return 0;
}

static int read_layer(Head *h, Weights *w, int i, Error *err) {
    Shape s = {0};
    const bool there = weights_shape(w, &s, "layers.%d.weight", PLACE[i]) && s.rank == 2;
    if (!there || s.dim[1] != h->size[i] || s.dim[0] < 1 || s.dim[0] > CLIP_EMBEDDING_MAX)
        return fail(
            err, DRPO_E_INPUT,
            "%s: no layers.%d.weight for %d numbers; sac+logos+ava1-l14-linearMSE.pth on CLIP ViT-L/14 is needed",
            weights_path(w), PLACE[i], h->size[i]);
    const Param *weight = weights_get(w, s, "layers.%d.weight", PLACE[i]);
    const Param *bias = weights_get(w, shape1(s.dim[0]), "layers.%d.bias", PLACE[i]);
    if (!weight || !bias) return fail(err, DRPO_E_INPUT, "%s", weights_mistake(w));
    h->size[i + 1] = (int)s.dim[0];
    if (h->size[i + 1] > h->largest) h->largest = h->size[i + 1];
    TRY(read_values(weight, &h->weight[i], err));
    return read_values(bias, &h->bias[i], err);
}

/* out = x W */
static void times_matrix(const double *x, const float *weight, int rows, int columns, double *out) {
    for (int k = 0; k < columns; k++) out[k] = 0;
    for (int j = 0; j < rows; j++)
        for (int k = 0; k < columns; k++) out[k] += x[j] * weight[(size_t)j * (size_t)columns + (size_t)k];
}

/* row = W7 W6 W4 W2 W0, from the left. */
static void fold(Head *h) {
    double *from = h->work, *to = h->work + h->largest;
    from[0] = 1;
    for (int i = LAYERS - 1; i >= 0; i--) {
        times_matrix(from, h->weight[i], h->size[i + 1], h->size[i], i ? to : h->row);
        double *swap = from;
        from = to;
        to = swap;
    }
}

static int read_head(Head *h, Weights *w, int embedding, Error *err) {
    h->size[0] = h->largest = embedding;
    for (int i = 0; i < LAYERS; i++) TRY(read_layer(h, w, i, err));
    TRY(weights_finish(w, err));
    if (h->size[LAYERS] != 1)
        return fail(err, DRPO_E_INPUT, "%s: its last layer gives %d numbers, not one score", weights_path(w),
                    h->size[LAYERS]);
    h->row = malloc((size_t)embedding * sizeof *h->row);
    h->work = malloc(2 * (size_t)h->largest * sizeof *h->work);
    if (!h->row || !h->work) return fail(err, DRPO_E_MEMORY, "out of memory for the aesthetic predictor's head");
    fold(h);
    return 0;
}

static int head_open(const char *path, int embedding, Head **out, Error *err) {
    Weights *w = NULL;
    TRY(weights_open_file(path, &w, err));
    Head *h = calloc(1, sizeof *h);
    int code = h ? read_head(h, w, embedding, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    weights_free(w);
    if (code < 0)
        head_free(h);
    else
        *out = h;
    return code;
}

static double run_layers(const Head *h, const float *image, double norm) {
    double *from = h->work, *to = h->work + h->largest;
    for (int k = 0; k < h->size[0]; k++) from[k] = image[k] / norm;
    for (int i = 0; i < LAYERS; i++) {
        for (int j = 0; j < h->size[i + 1]; j++) {
            const float *row = h->weight[i] + (size_t)j * (size_t)h->size[i];
            double sum = h->bias[i][j];
            for (int k = 0; k < h->size[i]; k++) sum += row[k] * from[k];
            to[j] = sum;
        }
        double *swap = from;
        from = to;
        to = swap;
    }
    return from[0];
}

/* d(score)/d(i) = (row - (row . i/|i|) i/|i|) / |i| */
static double aesthetic(const ClipReward *c, const float *image, const float *text, float *gradient) {
    (void)text;
    const Head *h = c->head;
    double ii = 0, along = 0;
    for (int k = 0; k < h->size[0]; k++) {
        ii += (double)image[k] * image[k];
        along += h->row[k] * image[k];
    }
    const double norm = ii > 0 ? sqrt(ii) : 1;
    for (int k = 0; gradient && k < h->size[0]; k++)
        gradient[k] = (float)((h->row[k] - along / norm * image[k] / norm) / norm);
    return run_layers(h, image, norm);
}

static int aesthetic_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    Head *head = NULL;
    const char *path = reward_text(spec, "head");
    if (!*path)
        return fail(err, DRPO_E_USAGE,
                    "reward aesthetic: say where its head is, ?head=sac+logos+ava1-l14-linearMSE.pth ('drpo rewards' "
                    "tells where to get it)");
    TRY(clip_reward_open(spec, false, CROP_FLOOR, "openai/clip-vit-large-patch14", out, err));
    ClipReward *c = (*out)->state;
    if (head_open(path, c->model.config.projection, &head, err) < 0) {
        reward_close(*out);
        *out = NULL;
        return fail_in(err, "reward aesthetic");
    }
    c->rate = aesthetic;
    c->head = head;
    c->free_head = head_free;
    return 0;
}

static const RewardOption options[] = {
    {"head", REWARD_TEXT, "", "", "sac+logos+ava1-l14-linearMSE.pth, the predictor itself (needed)"},
    {"scale", REWARD_NUMBER, "1", "", "factor of the score"},
    {"threads", REWARD_COUNT, "0", "0..256", "threads of the network; 0: as many as there are cores"},
    {"activation", REWARD_CHOICE, "auto", "auto|gelu|quick_gelu", "for a file of weights whose shapes do not tell it"},
    {NULL, REWARD_TEXT, NULL, NULL, NULL},
};

const RewardKind aesthetic_kind = {
    .name = "aesthetic",
    .argument = "CLIP_PATH",
    .scores = "how beautiful a picture is, whatever its prompt (LAION aesthetic predictor v2)",
    .needs = "CLIP ViT-L/14 and, by ?head=, the predictor's own small file",
    .range = "about 1 to 10, usually 4.5 to 7",
    .licence = "Apache-2.0 (head), MIT (CLIP)",
    .networks = true,
    .weights =
        "hf download openai/clip-vit-large-patch14; the head is in christophschuhmann/improved-aesthetic-predictor "
        "on GitHub",
    .options = options,
    .open = aesthetic_open,
};
