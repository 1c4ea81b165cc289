/* Prompt order: shuffled epochs, file order, or tags by weight. See prompt_order.h. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "train/prompt_order.h"

enum { MAX_TAGS = 64, WEIGHT_UNIT = 1000 };

typedef struct TagShare {
    char name[64];
    size_t weight; /* in 1/WEIGHT_UNIT */
    size_t *index; /* prompts of this tag */
    size_t count;
} TagShare;

struct PromptOrder {
    void (*pick)(PromptOrder *o, long number, int n, size_t *indices);
    uint64_t seed;
    size_t count;
    size_t *permutation; /* of the epoch that was asked for last */
    long long epoch;
    TagShare tag[MAX_TAGS];
    int tags;
    size_t total_weight;
};

static int parse_tags(const char *spec, TagShare *tag, int *tags, Error *err) {
    *tags = 0;
    for (const char *p = spec; *p;) {
        size_t n = strcspn(p, ","), name = strcspn(p, "=,");
        if (*tags == MAX_TAGS) return fail(err, DRPO_E_USAGE, "--prompt-order: more than %d tags", MAX_TAGS);
        TagShare *t = &tag[(*tags)++];
        char *end = NULL;
        double weight = p[name] == '=' ? strtod(p + name + 1, &end) : 1;
        if (name == 0 || name >= sizeof t->name || (end && (end != p + n || end == p + name + 1)) || !(weight > 0) ||
            weight > 1e6)
            return fail(err, DRPO_E_USAGE, "--prompt-order: '%.*s' is not TAG=WEIGHT with a weight above 0", (int)n, p);
        memcpy(t->name, p, name);
        t->name[name] = 0;
        t->weight = (size_t)(weight * WEIGHT_UNIT + 0.5);
        if (t->weight == 0) t->weight = 1;
        p += n + (p[n] == ',');
    }
    return *tags ? 0 : fail(err, DRPO_E_USAGE, "--prompt-order tags: names no tag; write tags:TAG=WEIGHT,...");
}

int prompt_order_check(const char *spec, Error *err) {
    TagShare tag[MAX_TAGS];
    int tags;
    if (strcmp(spec, "shuffle") == 0 || strcmp(spec, "file") == 0) return 0;
    if (strncmp(spec, "tags:", 5) == 0) return parse_tags(spec + 5, tag, &tags, err);
    return fail(err, DRPO_E_USAGE, "--prompt-order: '%s' is not shuffle, file or tags:TAG=WEIGHT,...", spec);
}

static void shuffle_epoch(PromptOrder *o, long long epoch) {
    RngKey key = {o->seed, RNG_PROMPTS, (uint32_t)epoch, 0, 0};
    for (size_t i = 0; i < o->count; i++) o->permutation[i] = i;
    for (size_t i = o->count; i-- > 1;) {
        size_t j = rng_below(key, i, i + 1), kept = o->permutation[i];
        o->permutation[i] = o->permutation[j];
        o->permutation[j] = kept;
    }
    o->epoch = epoch;
}

static void pick_shuffled(PromptOrder *o, long number, int n, size_t *indices) {
    for (int i = 0; i < n; i++) {
        long long at = (long long)number * n + i, epoch = at / (long long)o->count;
        if (epoch != o->epoch) shuffle_epoch(o, epoch);
        indices[i] = o->permutation[at % (long long)o->count];
    }
}

static void pick_in_order(PromptOrder *o, long number, int n, size_t *indices) {
    for (int i = 0; i < n; i++) indices[i] = (size_t)(((long long)number * n + i) % (long long)o->count);
}

static void pick_by_tag(PromptOrder *o, long number, int n, size_t *indices) {
    for (int i = 0; i < n; i++) {
        RngKey key = {o->seed, RNG_PROMPTS, (uint32_t)number, (uint32_t)i, 1};
        size_t at = rng_below(key, 0, o->total_weight);
        const TagShare *t = o->tag;
        while (at >= t->weight) at -= t++->weight;
        indices[i] = t->index[rng_below(key, 1, t->count)];
    }
}

static int collect_tags(PromptOrder *o, const PromptList *prompts, Error *err) {
    for (int k = 0; k < o->tags; k++) {
        TagShare *t = &o->tag[k];
        t->index = malloc(sizeof *t->index * prompts->count);
        if (!t->index) return fail(err, DRPO_E_MEMORY, "out of memory");
        for (size_t i = 0; i < prompts->count; i++)
            if (prompts->items[i].tag && strcmp(prompts->items[i].tag, t->name) == 0) t->index[t->count++] = i;
        if (t->count == 0) return fail(err, DRPO_E_INPUT, "--prompt-order: no prompt has the tag '%s'", t->name);
        o->total_weight += t->weight;
    }
    return 0;
}

int prompt_order_new(const char *spec, uint64_t seed, const PromptList *prompts, PromptOrder **out, Error *err) {
    TRY(prompt_order_check(spec, err));
    PromptOrder *o = calloc(1, sizeof *o);
    if (!o) return fail(err, DRPO_E_MEMORY, "out of memory");
    o->seed = seed;
    o->count = prompts->count;
    o->epoch = -1;
    o->pick = pick_in_order;
    int code = 0;
    if (strcmp(spec, "shuffle") == 0) {
        o->pick = pick_shuffled;
        o->permutation = malloc(sizeof *o->permutation * o->count);
        if (!o->permutation) code = fail(err, DRPO_E_MEMORY, "out of memory");
    } else if (strncmp(spec, "tags:", 5) == 0) {
        o->pick = pick_by_tag;
        code = parse_tags(spec + 5, o->tag, &o->tags, err);
        if (code == 0) code = collect_tags(o, prompts, err);
    }
    if (code < 0) {
        prompt_order_free(o);
        return code;
    }
    *out = o;
    return 0;
}

void prompt_order_free(PromptOrder *o) {
    if (!o) return;
    for (int k = 0; k < o->tags; k++) free(o->tag[k].index);
    free(o->permutation);
    free(o);
}

void prompt_order_pick(PromptOrder *o, long number, int n, size_t *indices) { o->pick(o, number, n, indices); }
