/* Gauging: sums over prompts, and how they are written. See gauging.h. */
#include "train/gauging.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "step/gauges.h"

enum { BASE, TUNED, SIDES };
enum { DIVERSITY, FEATURE_DIVERSITY, SATURATION, HIGH_FREQUENCY, COMPARED };

static const char *const names[COMPARED] = {"diversity", "feature_diversity", "saturation", "high_frequency"};

/* Of one prompt's pictures of one model. */
typedef struct PromptGauges {
    double diversity, saturation, high_frequency;
    double feature[MAX_FEATURE_KEYS];
    double difference, norm, pixels; /* tuned alone: towards the base */
} PromptGauges;

struct Gauging {
    Probe *probe; /* NULL: no features */
    int prompts, pictures;
    size_t latent_count;
    uint64_t seed;
    float *latents;            /* [prompts,pictures,C,h,w] of the base */
    PromptGauges *side[SIDES]; /* [prompts] */
};

int gauging_new(Step *s, int prompts, int pictures, size_t latent_count, uint64_t seed, Gauging **out, Error *err) {
    Gauging *g = calloc(1, sizeof *g);
    if (!g) return fail(err, DRPO_E_MEMORY, "out of memory");
    g->prompts = prompts;
    g->pictures = pictures;
    g->latent_count = latent_count;
    g->seed = seed;
    g->latents = malloc((size_t)prompts * (size_t)pictures * latent_count * sizeof(float));
    for (int side = 0; side < SIDES; side++) g->side[side] = calloc((size_t)prompts, sizeof(PromptGauges));
    int code = g->latents && g->side[BASE] && g->side[TUNED]
                   ? probe_new(s, pictures, &g->probe, err)
                   : fail(err, DRPO_E_MEMORY, "out of memory for the latents of %d prompts", prompts);
    if (code < 0) {
        gauging_free(g);
        return code;
    }
    *out = g;
    return 0;
}

void gauging_free(Gauging *g) {
    if (!g) return;
    probe_free(g->probe);
    free(g->latents);
    for (int side = 0; side < SIDES; side++) free(g->side[side]);
    free(g);
}

size_t gauging_records(const Gauging *g) {
    const size_t of_prompt = (size_t)g->pictures * g->latent_count * sizeof(float) + SIDES * sizeof(PromptGauges);
    return (size_t)g->prompts * of_prompt + probe_records(g->probe);
}

static float *base_latents(const Gauging *g, int i) {
    return g->latents + (size_t)i * (size_t)g->pictures * g->latent_count;
}

static int look(Gauging *g, int side, int i, const Prompt *prompt, const float *latents, const Pictures *p,
                Error *err) {
    PromptGauges *to = &g->side[side][i];
    const size_t pixels = (size_t)p->height * (size_t)p->width;
    *to = (PromptGauges){.diversity = gauge_pairwise(latents, p->count, g->latent_count)};
    for (int j = 0; j < p->count; j++) {
        const uint8_t *rgb = p->rgb + (size_t)j * pixels * 3;
        to->saturation += gauge_saturation(rgb, pixels) / p->count;
        to->high_frequency += gauge_high_frequency(rgb, p->height, p->width) / p->count;
    }
    if (!g->probe || p->count < 2) return 0;
    const RngKey key = {g->seed, RNG_FEATURE, 0, (uint32_t)i, 0};
    return probe_run(g->probe, prompt->text, key, latents, p->count, to->feature, err);
}

int gauging_base(Gauging *g, int i, const Prompt *prompt, const float *latents, const Pictures *pictures, Error *err) {
    memcpy(base_latents(g, i), latents, (size_t)g->pictures * g->latent_count * sizeof(float));
    return look(g, BASE, i, prompt, latents, pictures, err);
}

int gauging_tuned(Gauging *g, int i, const Prompt *prompt, const float *latents, const Pictures *pictures,
                  const uint8_t *base, Error *err) {
    TRY(look(g, TUNED, i, prompt, latents, pictures, err));
    PromptGauges *to = &g->side[TUNED][i];
    const size_t bytes = (size_t)pictures->count * (size_t)pictures->height * (size_t)pictures->width * 3;
    gauge_squares(latents, base_latents(g, i), (size_t)g->pictures * g->latent_count, &to->difference, &to->norm);
    to->pixels = gauge_pixel_distance(pictures->rgb, base, bytes);
    return 0;
}

/* ---- all prompts ---- */

/* Mean over the prompts of the number at `field` of their gauges. */
static double mean_of(const Gauging *g, int side, size_t field) {
    double sum = 0;
    for (int i = 0; i < g->prompts; i++) sum += *(const double *)((const char *)&g->side[side][i] + field);
    return sum / g->prompts;
}

static size_t feature_field(int key) { return offsetof(PromptGauges, feature) + (size_t)key * sizeof(double); }

/* Of the base, of the tuned model, and their ratio; NaN: not measured. */
static void compare(const Gauging *g, int gauge, double value[SIDES], double *ratio) {
    static const size_t field[COMPARED] = {[DIVERSITY] = offsetof(PromptGauges, diversity),
                                           [SATURATION] = offsetof(PromptGauges, saturation),
                                           [HIGH_FREQUENCY] = offsetof(PromptGauges, high_frequency)};
    const int keys = gauge == FEATURE_DIVERSITY ? probe_keys(g->probe) : 1;
    value[BASE] = value[TUNED] = *ratio = keys == 0 || (gauge == FEATURE_DIVERSITY && g->pictures < 2) ? NAN : 0;
    for (int k = 0; k < keys; k++) {
        double one[SIDES];
        for (int side = 0; side < SIDES; side++) {
            one[side] = mean_of(g, side, gauge == FEATURE_DIVERSITY ? feature_field(k) : field[gauge]);
            value[side] += one[side] / keys;
        }
        *ratio += gauge_ratio(one[TUNED], one[BASE]) / keys;
    }
}

static double distance(const Gauging *g) {
    const double n = mean_of(g, TUNED, offsetof(PromptGauges, norm));
    return n > 0 ? sqrt(mean_of(g, TUNED, offsetof(PromptGauges, difference)) / n) : NAN;
}

static double pixel_distance(const Gauging *g) { return mean_of(g, TUNED, offsetof(PromptGauges, pixels)); }

static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *gauging_json(const Gauging *g) {
    json_t *ratios = json_object();
    json_t *all = json_pack("{s:o, s:{s:o, s:o}}", "ratio", ratios, "distance", "latent", real(distance(g)), "pixels",
                            real(pixel_distance(g)));
    int bad = !all;
    for (int k = 0; k < COMPARED && !bad; k++) {
        double value[SIDES], ratio;
        compare(g, k, value, &ratio);
        bad |= json_object_set_new(ratios, names[k], real(ratio));
        bad |= json_object_set_new(all, names[k],
                                   json_pack("{s:o, s:o}", "base", real(value[BASE]), "tuned", real(value[TUNED])));
    }
    if (!bad) return all;
    json_decref(all);
    return NULL;
}

int gauging_events(const Gauging *g, long step, TfEvents *events, Error *err) {
    char tag[96];
    for (int k = 0; k < COMPARED; k++) {
        double value[SIDES], ratio;
        compare(g, k, value, &ratio);
        snprintf(tag, sizeof tag, "gauges/%s_over_base", names[k]);
        if (isfinite(ratio)) TRY(tfevents_scalar(events, tag, step, ratio, err));
        snprintf(tag, sizeof tag, "gauges/%s", names[k]);
        if (isfinite(value[TUNED])) TRY(tfevents_scalar(events, tag, step, value[TUNED], err));
    }
    if (isfinite(distance(g))) TRY(tfevents_scalar(events, "gauges/distance", step, distance(g), err));
    return tfevents_scalar(events, "gauges/pixel_distance", step, pixel_distance(g), err);
}

void gauging_text(const Gauging *g, char *text, size_t size) {
    static const char *const short_names[COMPARED] = {"diversity", "features' diversity", "saturation",
                                                      "high frequency"};
    size_t n = 0;
    text[0] = 0;
    for (int k = 0; k < COMPARED && n < size; k++) {
        double value[SIDES], ratio;
        compare(g, k, value, &ratio);
        if (isfinite(ratio)) n += (size_t)snprintf(text + n, size - n, "%s x%.3g, ", short_names[k], ratio);
    }
    if (n < size) snprintf(text + n, size - n, "distance %.3g", distance(g));
}
