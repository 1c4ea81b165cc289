/* Offline: pictures of a pairs file -> latents -> features -> attractors and repellers. See offline.h. */
#include "step/offline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "step/distance.h"
#include "step/pairs.h"

enum { ROLE_DATA = 3 };

/* Room for the features of `images` pictures, behind one another. */
static int reserve(Candidates *c, int keys, int images, Error *err) {
    size_t row = 0;
    for (int i = 0; i < keys; i++) row += (size_t)c->feature[i].tokens * (size_t)c->feature[i].dim;
    float *at = realloc(c->data, row * (size_t)images * sizeof *at);
    if (!at) return fail(err, DRPO_E_MEMORY, "out of memory for the features of %d pictures", images);
    c->data = at;
    for (int i = 0; i < keys; i++) {
        c->feature[i].data = at;
        at += (size_t)c->feature[i].tokens * (size_t)c->feature[i].dim * (size_t)images;
    }
    return 0;
}

static int look_at(const OfflinePasses *p, const OfflineOptions *o, const float *text, const char *path, int index,
                   int keys, Candidates *c, float *image, float *latents, Error *err) {
    RngKey key = c->draw;
    key.stream = RNG_FEATURE;
    key.candidate = (uint32_t)(ROLE_DATA * MAX_CANDIDATES + MAX_CANDIDATES / 2 + index);
    TRY(pair_picture(path, c->height, c->width, image, err));
    TRY(encode_pass_run(p->encode, image, o->sample ? &key : NULL, latents, err));
    const LatentDraw draw = {c->draw, ROLE_DATA};
    TRY(latent_pass_forward(p->look, text, &draw, index, latents, 1, err));
    for (int i = 0; i < keys; i++) {
        const FeatureSet *f = &c->feature[i];
        latent_pass_features(p->look, i, f->data + (size_t)index * (size_t)f->tokens * (size_t)f->dim, 1);
    }
    return 0;
}

static int look_at_all(const OfflinePasses *p, const OfflineOptions *o, const float *text, const Pair *pair,
                       Candidates *c, Error *err) {
    int keys = 0, tokens, dim;
    while (latent_pass_feature(p->look, keys, &tokens, &dim) == 0) keys++;
    const int images = pair->chosen + pair->rejected;
    TRY(reserve(c, keys, images, err));
    float *image = malloc(3 * (size_t)c->height * (size_t)c->width * sizeof *image),
          *latents = malloc(c->latent_count * sizeof *latents);
    int code = image && latents ? 0 : fail(err, DRPO_E_MEMORY, "out of memory for a picture");
    for (int k = 0; code == 0 && k < images; k++)
        code = look_at(p, o, text, pair->path[k], k, keys, c, image, latents, err);
    for (int i = 0; i < keys; i++) c->feature[i].data_pos = pair->chosen, c->feature[i].data_neg = pair->rejected;
    free(image);
    free(latents);
    return code;
}

int offline_look(const OfflinePasses *passes, const OfflineOptions *o, const float *text, const Prompt *prompt,
                 Candidates *c, Error *err) {
    Pair pair;
    Arena *a = arena_new();
    int code = a ? pair_parse(prompt, o->folder, a, &pair, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = look_at_all(passes, o, text, &pair, c, err);
    arena_free(a);
    return code;
}

/* The best ceil(fraction K) move, unless they are among the worst; where none is left, the best one. */
static void choose_moving(Candidates *c, double fraction) {
    bool worst[MAX_CANDIDATES] = {false};
    int order[MAX_CANDIDATES], moving = 0, top = (int)ceil(fraction * c->count);
    for (int i = 0; i < c->selection.n_neg; i++) worst[c->selection.neg[i]] = true;
    for (int i = 0; i < c->count; i++) {
        int at = i;
        for (; at > 0 && c->score[i] > c->score[order[at - 1]]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    for (int i = 0; i < (top > 1 ? top : 1); i++)
        if (!worst[order[i]]) c->moving[moving++] = order[i];
    if (!moving) c->moving[moving++] = order[0];
    c->n_moving = moving;
}

int offline_score(const OfflineOptions *o, bool anchor_key, Candidates *c, Error *err) {
    return distance_scores(c->feature, c->features - anchor_key, c->count, &o->distance, c->score, err);
}

void offline_choose(const OfflineOptions *o, Candidates *c) {
    c->n_moving = 0;
    if (!c->selection.skip && o->fraction < 1) choose_moving(c, o->fraction);
    for (int i = 0; !o->anchors && i < c->features; i++) c->feature[i].data_pos = c->feature[i].data_neg = 0;
}
