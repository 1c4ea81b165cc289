/* Zero-shot colours: the object, alone on grey, goes to the colour whose texts lie nearest.
 *
 *     t(c) = unit(mean over three texts of unit(text(c, class)))        colour = argmax over c of unit(image) . t(c)
 *
 * In the update: detections -> colours -> verdict. The texts of a class are encoded when it is first asked about. */
#include "step/reward/geneval_clip.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/clip_pass.h"
#include "step/reward/geneval_crop.h"

enum { TEXTS = 3, LONGEST = 64 /* sides of an object that is looked at, as a ratio */ };

struct GenevalClip {
    ClipModel model;
    PictureRule rule;
    Backend *backend;
    ClipPass *pass;
    double *colors[GENEVAL_CLASSES]; /* [GENEVAL_COLORS,projection], unit vectors; NULL: not asked about yet */
    float *image;                    /* [projection] */
    pthread_mutex_t lock;            /* the passes serve one caller at a time */
};

/* ---- opening ---- */

static int open_passes(GenevalClip *c, const ClipChoice *choice, int threads, Error *err) {
    TRY(clip_open(choice, &c->model, err));
    c->rule = picture_rule_clip;
    c->rule.crop = CROP_ROUND; /* the benchmark prepares pictures with open_clip */
    c->rule.size = c->model.config.vision.image;
    c->image = malloc((size_t)c->model.config.projection * sizeof *c->image);
    if (!c->image) return fail(err, DRPO_E_MEMORY, "no memory for an embedding");
    c->backend = backend_cpu_new(threads, err);
    if (!c->backend) return DRPO_E_MEMORY;
    return clip_pass_new(&c->model, c->backend, &c->rule, &c->pass, err);
}

int geneval_clip_open(const ClipChoice *choice, int threads, GenevalClip **out, Error *err) {
    *out = NULL;
    GenevalClip *c = calloc(1, sizeof *c);
    if (!c) return fail(err, DRPO_E_MEMORY, "no memory for the colors of %s", choice->path);
    pthread_mutex_init(&c->lock, NULL);
    const int code = open_passes(c, choice, threads, err);
    if (code == 0)
        *out = c;
    else
        geneval_clip_free(c);
    return code;
}

void geneval_clip_free(GenevalClip *c) {
    if (!c) return;
    clip_pass_free(c->pass);
    backend_free(c->backend); /* its packed weights are known by those of the model */
    clip_close(&c->model);
    for (int class = 0; class < GENEVAL_CLASSES; class ++) free(c->colors[class]);
    free(c->image);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* ---- texts ---- */

/* The article is "a" before vowels too: so are the benchmark's texts. */
static void write_text(char *text, size_t size, int which, const char *color, const char *class) {
    if (which == 0) snprintf(text, size, "a photo of a %s %s", color, class);
    if (which == 1) snprintf(text, size, "a photo of a %s-colored %s", color, class);
    if (which == 2) snprintf(text, size, "a photo of a %s object", color);
}

static double norm(const double *x, int n) {
    double sum = 0;
    for (int k = 0; k < n; k++) sum += x[k] * x[k];
    return sqrt(sum);
}

static int add_text(GenevalClip *c, const char *text, double *to, Error *err) {
    const float *embedding;
    double sum = 0;
    const int n = c->model.config.projection;
    TRY(clip_pass_text(c->pass, text, &embedding, err));
    for (int k = 0; k < n; k++) sum += (double)embedding[k] * embedding[k];
    for (int k = 0; k < n; k++) to[k] += embedding[k] / sqrt(sum);
    return 0;
}

static int encode_colors(GenevalClip *c, int class, double *out, Error *err) {
    const int n = c->model.config.projection;
    for (int color = 0; color < GENEVAL_COLORS; color++, out += n) {
        for (int which = 0; which < TEXTS; which++) {
            char text[96];
            write_text(text, sizeof text, which, geneval_color_name[color], geneval_class_name[class]);
            TRY(add_text(c, text, out, err));
        }
        const double length = norm(out, n); /* of the sum: the mean's direction */
        for (int k = 0; k < n; k++) out[k] /= length;
    }
    return 0;
}

static int colors_of(GenevalClip *c, int class, const double **out, Error *err) {
    if (!c->colors[class]) {
        double *colors = calloc(GENEVAL_COLORS * (size_t)c->model.config.projection, sizeof *colors);
        if (!colors) return fail(err, DRPO_E_MEMORY, "no memory for the colors of a %s", geneval_class_name[class]);
        const int code = encode_colors(c, class, colors, err);
        if (code < 0) {
            free(colors);
            return code;
        }
        c->colors[class] = colors;
    }
    *out = c->colors[class];
    return 0;
}

/* ---- objects ---- */

static int rate(GenevalClip *c, int class, const uint8_t *rgb, int height, int width, double *cosine, Error *err) {
    const double *colors = NULL;
    double sum = 0;
    const int n = c->model.config.projection;
    TRY(colors_of(c, class, &colors, err));
    TRY(clip_pass_pictures(c->pass, rgb, 1, height, width, c->image, err));
    for (int k = 0; k < n; k++) sum += (double)c->image[k] * c->image[k];
    for (int color = 0; color < GENEVAL_COLORS; color++) {
        cosine[color] = 0;
        for (int k = 0; k < n; k++) cosine[color] += c->image[k] * colors[color * n + k] / sqrt(sum);
        if (!isfinite(cosine[color]))
            return fail(err, DRPO_E_NUMERIC, "CLIP gives no finite embedding: are its weights damaged?");
    }
    return 0;
}

int geneval_clip_rate(GenevalClip *c, int class, const uint8_t *rgb, int height, int width,
                      double cosine[GENEVAL_COLORS], Error *err) {
    pthread_mutex_lock(&c->lock);
    const int code = rate(c, class, rgb, height, width, cosine, err);
    pthread_mutex_unlock(&c->lock);
    return code;
}

/* An even number, so that the middle stays where it was. */
static int end_to_cut(int length, int other) {
    const long long surplus = length - (long long)LONGEST * other;
    return surplus > 0 ? (int)(surplus / 4 * 2) : 0;
}

void geneval_clip_shorten(Image *crop) {
    const int x = end_to_cut(crop->width, crop->height), y = end_to_cut(crop->height, crop->width);
    const int width = crop->width - 2 * x, height = crop->height - 2 * y;
    for (int row = 0; row < height; row++)
        memmove(crop->rgb + 3 * (size_t)row * (size_t)width,
                crop->rgb + 3 * ((size_t)(y + row) * (size_t)crop->width + (size_t)x), 3 * (size_t)width);
    crop->width = width;
    crop->height = height;
}

static int name_color(const GenevalView *v, const GenevalObject *o, int class, int *color, Error *err) {
    Image crop;
    double cosine[GENEVAL_COLORS];
    TRY(geneval_crop(v->rgb, v->height, v->width, o, &crop, err));
    geneval_clip_shorten(&crop);
    const int code = geneval_clip_rate(v->clip, class, crop.rgb, crop.height, crop.width, cosine, err);
    image_free(&crop);
    TRY(code);
    *color = 0;
    for (int k = 1; k < GENEVAL_COLORS; k++)
        if (cosine[k] > cosine[*color]) *color = k;
    return 0;
}

int geneval_clip_colors(void *user, int class, const GenevalObject *const *objects, int n, int *colors, Error *err) {
    const GenevalView *view = user;
    for (int i = 0; i < n; i++) {
        colors[i] = objects[i]->color;
        if (colors[i] < 0) TRY(name_color(view, objects[i], class, &colors[i], err));
    }
    return 0;
}
