/* The frozen UNet itself as a feature map: hidden states of a lightly noised x0 at a small timestep.
 *
 *     h = UNet(x0 + noise n, t, text) up to the last block that is asked for;   feature = flat(average pool(h))
 *
 * n belongs to the candidate, so that equal latents have equal features, whoever drew them. fresh=true is the released
 * behaviour: policy, reference and anchors each see noise of their own. */
#include <stdlib.h>

#include "step/feature/feature_map.h"

typedef struct Teacher {
    Param time; /* [1,C0] sinusoids of the timestep */
    float noise;
    int pool;
    bool fresh;
    int latent_count;
} Teacher;

static int open_teacher(FeatureMap *m, Error *err) {
    const UnetConfig *u = &m->pipeline->unet;
    const int width = u->channels[0];
    Teacher *t = arena_alloc(m->arena, sizeof *t);
    float *values = arena_alloc(m->arena, (size_t)width * sizeof *values);
    if (!t || !values) return fail(err, DRPO_E_MEMORY, "features: out of memory");
    double noise, timestep, pool;
    *t = (Teacher){.latent_count = m->pipeline->latent_channels * m->height * m->width};
    m->state = t;
    TRY(feature_number(m, "noise", 0.1, 0, 100, &noise, err));
    TRY(feature_number(m, "timestep", 100, 0, 999, &timestep, err));
    TRY(feature_number(m, "pool", 4, 1, 64, &pool, err));
    TRY(feature_flag(m, "fresh", &t->fresh, err));
    t->noise = (float)noise;
    t->pool = (int)pool;
    timestep_embedding((float)timestep, width, u->flip_sin_to_cos, (float)u->freq_shift, values);
    t->time = (Param){.name = "time", .dtype = DT_F32, .shape = shape2(1, width), .data = values};
    return feature_check(m, err);
}

static void draw_noise(const void *map, RngKey key, int role, float *row) {
    const Teacher *t = ((const FeatureMap *)map)->state;
    if (t->fresh) key.candidate += (uint32_t)role * MAX_CANDIDATES;
    rng_normal(key, row, (size_t)t->latent_count);
}

/* [N,C,h,w] -> [N,1,C h' w'], channel after channel; maps smaller than a cell give their mean. */
static int pooled(Graph *g, Value x, int pool, const char *key, Value *out, Error *err) {
    if (!x) return 0; /* a mistake that graph_check reports */
    const int64_t n = x->shape.dim[0], c = x->shape.dim[1], h = x->shape.dim[2], w = x->shape.dim[3];
    if (h != w || (h >= pool && h % pool))
        return fail(err, DRPO_E_USAGE,
                    "feature key '%s': its map of %lldx%lld does not divide into cells of %d; give pool=", key,
                    (long long)h, (long long)w, pool);
    x = avg_pool(g, x, h < pool ? (int)h : pool);
    const int side = h < pool ? 1 : (int)(h / pool);
    if (side > 1) x = pixel_unshuffle(g, x, side);
    *out = reshape(g, to_tokens(g, x), shape3(n, 1, c * side * side));
    return 0;
}

static int build(const FeatureMap *m, Build *b, FeatureInputs *in, Value *out, Error *err) {
    Teacher *t = m->state;
    Graph *g = b->g;
    Value x = in->latents, hidden[MAX_FEATURE_KEYS];
    if (t->noise > 0) {
        Value n = input(g, "teacher noise", DT_F32, x->shape);
        if (in->draws == MAX_FEATURE_DRAWS) return fail(err, DRPO_E_USAGE, "--features: too many maps that draw noise");
        in->draw[in->draws++] = (FeatureDraw){n, draw_noise, m};
        x = add(g, x, affine(g, n, t->noise, 0));
    }
    b->weights = m->pipeline->unet_weights;
    unet_hidden(b, &m->pipeline->unet, x, param(g, &t->time), in->text, in->added, m->key, m->keys, hidden);
    TRY(graph_check(g, err));
    for (int i = 0; i < m->keys; i++) TRY(pooled(g, hidden[i], t->pool, m->key[i], &out[i], err));
    return 0;
}

static bool draws(const FeatureMap *m) { return ((const Teacher *)m->state)->noise > 0; }
static bool redraws(const FeatureMap *m) { return draws(m) && ((const Teacher *)m->state)->fresh; }

const FeatureKind teacher_map = {
    .name = "teacher",
    .alias = "teacher_unet",
    .keys = "down_blocks.2,mid_block,up_blocks.0",
    .options = "noise=X timestep=T pool=N fresh=true|false",
    .aside = true,
    .needs_text = true,
    .open = open_teacher,
    .build = build,
    .draws = draws,
    .redraws = redraws,
};
