/* Networks: chooses the chunk, plans the passes and lays them over shared memory. Comes before the first update. */
#include "step/networks.h"

#include <string.h>

#include "base/sizes.h"
#include "step/differentiate.h"

static const size_t default_budget = (size_t)1 << 30; /* of all workers together */
static const size_t chunk_budget = (size_t)640 << 20; /* of one network: computing blocks again costs a few percent */
static const size_t lone_budget = (size_t)768 << 20;  /* of a candidate alone, which must not fail */
static const size_t aside_goal = (size_t)256 << 20;   /* what maps that stand aside should do with */

static GeneratorPassOptions policy_options(const NetworksOptions *o, int batch, size_t budget) {
    return (GeneratorPassOptions){.batch = batch,
                                  .height = o->height,
                                  .width = o->width,
                                  .released_x0 = o->released_x0,
                                  .adapter = o->adapter,
                                  .features = o->features,
                                  .backward = true,
                                  .budget = budget};
}

/* One picture decides how much is recomputed: what fits a budget is taken, else the least that is possible. */
static LatentPassOptions aside_options(const NetworksOptions *o, const FeatureBuilder *f, int batch, size_t budget) {
    return (LatentPassOptions){.batch = batch,
                               .height = o->height,
                               .width = o->width,
                               .features = f,
                               .backward = true,
                               .budget = budget,
                               .tight = true};
}

size_t networks_budget(const NetworksOptions *o) { return o->budget ? o->budget : default_budget; }

int networks_measure(Pipeline *p, Backend *b, const NetworksOptions *o, size_t *bytes, Error *err) {
    int batch = o->chunk && o->chunk < o->candidates ? o->chunk : o->candidates;
    GeneratorPassOptions policy = policy_options(o, batch, 0);
    TRY(generator_pass_measure(p, b, &policy, bytes, err));
    const FeatureBuilder picture = differentiate_builder();
    const FeatureBuilder *maps[] = {o->aside->count ? o->aside : NULL, o->differentiates ? &picture : NULL};
    size_t aside = 0; /* they follow one another in the same memory */
    for (int i = 0; i < 2; i++) {
        size_t one_bytes;
        if (!maps[i]) continue;
        LatentPassOptions one = aside_options(o, maps[i], 1, aside_goal);
        TRY(latent_pass_measure(p, b, &one, &one_bytes, err));
        if (one_bytes > aside) aside = one_bytes;
    }
    *bytes += aside;
    return 0;
}

/* Halves the chunk until its activations fit, with as much computed again as it takes: in smaller chunks all candidates
 * would be generated twice, which costs no less. At one candidate the planner says when even that is not enough. */
static int choose_chunk(Pipeline *p, Networks *n, const NetworksOptions *o, Error *err) {
    const size_t budget = o->budget ? o->budget : chunk_budget;
    n->chunk = o->chunk ? o->chunk : o->candidates;
    if (n->chunk > o->candidates) n->chunk = o->candidates;
    if (o->chunk) return 0;
    for (; n->chunk > 1; n->chunk = (n->chunk + 1) / 2) {
        size_t bytes;
        GeneratorPassOptions policy = policy_options(o, n->chunk, budget);
        const int code = generator_pass_measure(p, n->backend, &policy, &bytes, err);
        if (code != DRPO_E_MEMORY) return code;
        error_clear(err);
    }
    return 0;
}

/* As many candidates at once as the goal has room for; a single one is recomputed as far as it must be. */
static int plan_aside(Pipeline *p, Networks *n, const NetworksOptions *o, const FeatureBuilder *f, LatentPass **out,
                      Error *err) {
    const size_t goal = o->budget && o->budget < aside_goal ? o->budget : aside_goal;
    int batch = o->candidates;
    for (; batch > 1; batch = (batch + 1) / 2) {
        size_t bytes;
        LatentPassOptions some = aside_options(o, f, batch, 0);
        TRY(latent_pass_measure(p, n->backend, &some, &bytes, err));
        if (bytes <= goal) break;
    }
    LatentPassOptions aside = aside_options(o, f, batch, goal);
    return latent_pass_new(p, n->backend, &aside, out, err);
}

static int plan_given(Pipeline *p, Networks *n, const NetworksOptions *o, Error *err) {
    LatentPassOptions given = {.batch = 1, .height = o->height, .width = o->width, .features = o->given};
    TRY(latent_pass_new(p, n->backend, &given, &n->given, err));
    return encode_pass_new(p, n->backend, o->height, o->width, &n->encode, err);
}

static int plan_decoders(Pipeline *p, Networks *n, const NetworksOptions *o, Error *err) {
    int batch = decode_batch(o->candidates, o->height * p->factor, o->width * p->factor);
    if (o->small) TRY(decode_pass_new_taesd(o->small, n->backend, batch, o->height, o->width, &n->decode, err));
    return decode_pass_new(p, n->backend, batch, o->height, o->width, o->small ? &n->full : &n->decode, err);
}

static int plan_passes(Pipeline *p, Networks *n, const NetworksOptions *o, Error *err) {
    /* A chunk that someone asked for is taken as it is unless a budget is given too. */
    const size_t usual = n->chunk == 1 ? lone_budget : o->chunk ? 0 : chunk_budget;
    const size_t budget = o->budget ? o->budget : usual;
    GeneratorPassOptions policy = policy_options(o, n->chunk, budget);
    TRY(generator_pass_new(p, n->backend, &policy, &n->policy, err));
    if (o->reference) {
        GeneratorPassOptions reference = policy;
        reference.adapter = NULL;
        reference.backward = false;
        TRY(generator_pass_new(p, n->backend, &reference, &n->reference, err));
    }
    if (o->aside->count) TRY(plan_aside(p, n, o, o->aside, &n->aside, err));
    const FeatureBuilder picture = differentiate_builder();
    if (o->differentiates) TRY(plan_aside(p, n, o, &picture, &n->picture, err));
    if (o->given->count) TRY(plan_given(p, n, o, err));
    return plan_decoders(p, n, o, err);
}

static int bind_memory(Networks *n, Error *err) {
    size_t policy = generator_pass_bytes(n->policy);
    n->shared_bytes = decode_pass_bytes(n->decode);
    if (n->full) n->shared_bytes = max_size(n->shared_bytes, decode_pass_bytes(n->full));
    if (n->reference) n->shared_bytes = max_size(n->shared_bytes, generator_pass_bytes(n->reference));
    if (n->aside) n->shared_bytes = max_size(n->shared_bytes, latent_pass_bytes(n->aside));
    if (n->picture) n->shared_bytes = max_size(n->shared_bytes, latent_pass_bytes(n->picture));
    if (n->given) n->shared_bytes = max_size(n->shared_bytes, latent_pass_bytes(n->given));
    if (n->encode) n->shared_bytes = max_size(n->shared_bytes, encode_pass_bytes(n->encode));
    if (n->held)
        n->held_bytes = policy;
    else
        n->shared_bytes = max_size(n->shared_bytes, policy);
    n->shared_memory = n->backend->alloc(n->backend, n->shared_bytes);
    if (n->held) n->held_memory = n->backend->alloc(n->backend, n->held_bytes);
    if (!n->shared_memory || (n->held && !n->held_memory))
        return fail(err, DRPO_E_MEMORY,
                    "cannot allocate %zu MiB for activations; try a smaller --chunk or --memory-budget",
                    (n->held_bytes + n->shared_bytes) >> 20);
    TRY(generator_pass_bind(n->policy, n->held ? n->held_memory : n->shared_memory, err));
    if (n->reference) TRY(generator_pass_bind(n->reference, n->shared_memory, err));
    if (n->aside) TRY(latent_pass_bind(n->aside, n->shared_memory, err));
    if (n->picture) TRY(latent_pass_bind(n->picture, n->shared_memory, err));
    if (n->given) TRY(latent_pass_bind(n->given, n->shared_memory, err));
    if (n->encode) TRY(encode_pass_bind(n->encode, n->shared_memory, err));
    if (n->full) TRY(decode_pass_bind(n->full, n->shared_memory, err));
    return decode_pass_bind(n->decode, n->shared_memory, err);
}

static int open_all(Pipeline *p, const NetworksOptions *o, Networks *n, Error *err) {
    TRY(choose_chunk(p, n, o, err));
    n->held = n->chunk >= o->candidates;
    TRY(plan_passes(p, n, o, err));
    return bind_memory(n, err);
}

int networks_open(Pipeline *p, Backend *b, const NetworksOptions *o, Networks *out, Error *err) {
    memset(out, 0, sizeof *out);
    out->backend = b;
    int code = open_all(p, o, out, err);
    if (code < 0) networks_close(out);
    return code;
}

void networks_close(Networks *n) {
    generator_pass_free(n->policy);
    generator_pass_free(n->reference);
    decode_pass_free(n->decode);
    decode_pass_free(n->full);
    latent_pass_free(n->aside);
    latent_pass_free(n->given);
    latent_pass_free(n->picture);
    encode_pass_free(n->encode);
    if (n->held_memory) n->backend->free(n->backend, n->held_memory, n->held_bytes);
    if (n->shared_memory) n->backend->free(n->backend, n->shared_memory, n->shared_bytes);
    memset(n, 0, sizeof *n);
}
