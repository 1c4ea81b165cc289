/* The verifier's partial credit with a gradient: reward `scene-smooth`, for methods that differentiate their reward.
 *
 *     score = sum over items of weight * match(object) - sum over surplus objects of 0.1 min(1, mean contrast / 0.4)
 *
 * The same objects, matches and weights as in `scene`; what is decided there (background, which pixels are an object,
 * its strength and box, who is matched with whom, whether a relation holds) is held, and what is left is smooth: a
 * pixel's contrast moves the object's coverage, thereby its likeness to every shape; its colour moves the object's mean
 * colour; a surplus object fades. What is missing altogether has no slope. */
#include <math.h>
#include <stdlib.h>

#include "step/reward/reward_internal.h"
#include "step/reward/scene_internal.h"

enum { PIXELS = SCENE_SIZE * SCENE_SIZE, GRID = SCENE_GRID * SCENE_GRID };
static const double SURPLUS = 0.1, SURPLUS_CONTRAST = 0.4;

typedef struct Slopes {
    double pixel[PIXELS * 3];
    double coverage[PIXELS]; /* of the object at hand */
} Slopes;

/* d(score)/d(contrast of pixel i) reaches the one channel that makes the contrast. */
static void add_contrast(const SceneTrace *t, Slopes *s, int i, double slope) {
    const int channel = t->channel[i];
    s->pixel[i * 3 + channel % 3] += channel < 3 ? slope : -slope;
}

static double coverage_at(const SceneTrace *t, int object, const bool *member, int i) {
    return member[i] ? scene_coverage(t->contrast[i], t->strength[object]) : 0;
}

/* corr_s = T_s . (grid - mean) / norm: back to the four pixels of every grid point. */
static void shape_slopes(const SceneTrace *t, const SceneObject *o, int object, const bool *member, const double *by,
                         Slopes *s) {
    double grid[GRID], mean = 0, power = 0;
    for (int k = 0; k < GRID; k++) {
        const SceneSample at = scene_sample(o, k);
        const int i = at.y * SCENE_SIZE + at.x;
        grid[k] = coverage_at(t, object, member, i) * (1 - at.right) * (1 - at.down) +
                  coverage_at(t, object, member, i + 1) * at.right * (1 - at.down) +
                  coverage_at(t, object, member, i + SCENE_SIZE) * (1 - at.right) * at.down +
                  coverage_at(t, object, member, i + SCENE_SIZE + 1) * at.right * at.down;
        mean += grid[k] / GRID;
    }
    for (int k = 0; k < GRID; k++) power += (grid[k] - mean) * (grid[k] - mean);
    const double norm = fmax(sqrt(power), 1e-6);
    for (int shape = 0; shape < SCENE_SHAPES; shape++) {
        double centre = 0;
        for (int k = 0; k < GRID; k++) centre += (double)SCENE_TEMPLATES[shape][k] / GRID;
        for (int k = 0; by[shape] != 0 && k < GRID; k++) {
            const double slope =
                by[shape] * (SCENE_TEMPLATES[shape][k] - centre - o->correlation[shape] * (grid[k] - mean) / norm) /
                norm;
            const SceneSample at = scene_sample(o, k);
            double *to = s->coverage + at.y * SCENE_SIZE + at.x;
            to[0] += slope * (1 - at.right) * (1 - at.down);
            to[1] += slope * at.right * (1 - at.down);
            to[SCENE_SIZE] += slope * (1 - at.right) * at.down;
            to[SCENE_SIZE + 1] += slope * at.right * at.down;
        }
    }
}

/* distance_k = |palette_k - mean colour of the well-covered pixels| */
static void color_slopes(const SceneTrace *t, const SceneObject *o, int object, const double *by, Slopes *s) {
    const int *pixel = t->pixel + t->first[object];
    double mean[3] = {0}, slope[3] = {0};
    int core = 0;
    for (int k = 0; k < t->count[object]; k++)
        core += scene_coverage(t->contrast[pixel[k]], t->strength[object]) > 0.85f;
    const int n = core ? core : t->count[object];
    for (int pass = 0; pass < 2; pass++) {
        for (int k = 0; k < t->count[object]; k++) {
            if (core && scene_coverage(t->contrast[pixel[k]], t->strength[object]) <= 0.85f) continue;
            for (int c = 0; c < 3; c++) {
                if (pass == 0)
                    mean[c] += (double)t->image[pixel[k] * 3 + c] / n;
                else
                    s->pixel[pixel[k] * 3 + c] += slope[c] / n;
            }
        }
        for (int k = 0; pass == 0 && k < SCENE_COLORS; k++)
            for (int c = 0; c < 3; c++)
                slope[c] += by[k] * (mean[c] - SCENE_PALETTE[k][c]) / fmax(o->distance[k], 1e-6);
    }
}

static void object_slopes(const SceneTask *task, const SceneTrace *t, const SceneObject *objects,
                          const SceneCredits *credits, int object, Slopes *s) {
    double by_shape[SCENE_SHAPES] = {0}, by_color[SCENE_COLORS] = {0};
    bool member[PIXELS + SCENE_SIZE + 2] = {false};
    const int *pixel = t->pixel + t->first[object];
    for (int i = 0; i < credits->count; i++) {
        const SceneCredit *c = &credits->credit[i];
        double shape[SCENE_SHAPES], color[SCENE_COLORS];
        if (c->object != object) continue;
        scene_match(&task->include[c->item], &objects[object], shape, color);
        for (int k = 0; k < SCENE_SHAPES; k++) by_shape[k] += c->weight * shape[k];
        for (int k = 0; k < SCENE_COLORS; k++) by_color[k] += c->weight * color[k];
    }
    for (int k = 0; k < t->count[object]; k++) member[pixel[k]] = true;
    for (int i = 0; i < PIXELS; i++) s->coverage[i] = 0;
    shape_slopes(t, &objects[object], object, member, by_shape, s);
    color_slopes(t, &objects[object], object, by_color, s);
    for (int k = 0; k < t->count[object]; k++)
        if (t->contrast[pixel[k]] < t->strength[object])
            add_contrast(t, s, pixel[k], s->coverage[pixel[k]] / t->strength[object]);
}

/* Its penalty; slopes are added. */
static double surplus(const SceneTrace *t, int object, Slopes *s) {
    const int n = t->count[object], *pixel = t->pixel + t->first[object];
    double mean = 0;
    for (int k = 0; k < n; k++) mean += (double)t->contrast[pixel[k]] / n;
    for (int k = 0; mean < SURPLUS_CONTRAST && k < n; k++)
        add_contrast(t, s, pixel[k], -SURPLUS / SURPLUS_CONTRAST / n);
    return SURPLUS * fmin(mean / SURPLUS_CONTRAST, 1);
}

double scene_smooth(const SceneTask *task, const float *image, double *gradient) {
    SceneObject objects[SCENE_MAX_OBJECTS];
    SceneCredits credits;
    SceneTrace *t = malloc(sizeof *t);
    Slopes *s = calloc(1, sizeof *s);
    double score = NAN;
    if (t && s) {
        const int count = scene_detect_image(image, objects, t);
        scene_credits(task, objects, count, &credits);
        score = credits.sum;
        for (int i = 0; i < count; i++) {
            if (credits.used[i])
                object_slopes(task, t, objects, &credits, i, s);
            else
                score -= surplus(t, i, s);
        }
        for (int i = 0; gradient && i < PIXELS * 3; i++) gradient[i] = s->pixel[i];
    }
    free(t);
    free(s);
    return score;
}

/* ---- the reward ---- */
static int check_size(int height, int width, Error *err) {
    if (height == SCENE_SIZE && width == SCENE_SIZE) return 0;
    return fail(err, DRPO_E_INPUT,
                "scene-smooth: pictures of %d x %d pixels; it knows %d x %d, the embedded model's size", width, height,
                SCENE_SIZE, SCENE_SIZE);
}

static int smooth_score(Reward *r, const Prompt *prompt, const Pictures *pictures, float *scores, Error *err) {
    SceneTask *task = NULL;
    (void)r;
    TRY(check_size(pictures->height, pictures->width, err));
    TRY(scene_task_parse(prompt->metadata, &task, err));
    float *image = malloc(PIXELS * 3 * sizeof *image);
    for (int i = 0; image && i < pictures->count; i++) {
        for (int k = 0; k < PIXELS * 3; k++) image[k] = pictures->rgb[(size_t)i * PIXELS * 3 + (size_t)k] / 255.0f;
        scores[i] = (float)scene_smooth(task, image, NULL);
    }
    free(image);
    scene_task_free(task);
    return image ? 0 : fail(err, DRPO_E_MEMORY, "scene-smooth: out of memory");
}

/* [3,64,64] in [-1,1] <-> [64,64,3] in [0,1] */
static int smooth_gradient(Reward *r, const Prompt *prompt, const float *images, int n, int height, int width,
                           float *scores, float *gradient, Error *err) {
    SceneTask *task = NULL;
    (void)r;
    TRY(check_size(height, width, err));
    TRY(scene_task_parse(prompt->metadata, &task, err));
    float *image = malloc(PIXELS * 3 * sizeof *image);
    double *slope = malloc(PIXELS * 3 * sizeof *slope);
    const bool ready = image && slope;
    for (int i = 0; ready && i < n; i++, images += PIXELS * 3, gradient += PIXELS * 3) {
        for (int k = 0; k < PIXELS * 3; k++) image[k] = images[k % 3 * PIXELS + k / 3] * 0.5f + 0.5f;
        scores[i] = (float)scene_smooth(task, image, slope);
        for (int k = 0; k < PIXELS * 3; k++) gradient[k % 3 * PIXELS + k / 3] = (float)(slope[k] * 0.5);
    }
    free(image);
    free(slope);
    scene_task_free(task);
    return ready ? 0 : fail(err, DRPO_E_MEMORY, "scene-smooth: out of memory");
}

static int smooth_open(const RewardSpec *spec, const RewardContext *context, Reward **out, Error *err) {
    (void)context;
    Reward *r = reward_new(spec, spec->name);
    if (!r) return fail(err, DRPO_E_MEMORY, "no memory for the reward '%s'", spec->name);
    r->needs_metadata = true;
    r->score = smooth_score;
    r->score_gradient = smooth_gradient;
    *out = r;
    return 0;
}

const RewardKind scene_smooth_kind = {
    .name = "scene-smooth",
    .scores = "how close a picture comes to its prompt, with a gradient (for --method draft and vggflow)",
    .needs = "64x64 pictures, prompts with metadata (.jsonl)",
    .range = "about 0 to 1",
    .licence = "drpo's own",
    .weights = "none; written in C",
    .open = smooth_open,
};
