/* The published latent feature network in one file, safetensors or torch.save: names and layouts of either conversion
 * become those of latent_resnet.c, and its configuration is read off the shapes.
 *
 *   <name>.kernel [kh,kw,in,out] -> <name>.weight [out,in,kh,kw];  <name>.scale -> <name>.weight
 *   module., _orig_mod. in front of names are dropped; so is all that is not the encoder */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "format/safetensors.h"
#include "model/latent_resnet.h"

enum { MOST_GROUPS = 32, SMALL_KERNEL = 3, NAME_LENGTH = 256 };

static const char *bare_name(const char *name) {
    static const char *const fronts[] = {"module.", "_orig_mod."};
    for (size_t i = 0; i < 2;) {
        const size_t n = strlen(fronts[i]);
        const bool there = strncmp(name, fronts[i], n) == 0;
        if (there) name += n;
        i = there ? 0 : i + 1;
    }
    return name;
}

static const char *final_name(Arena *a, const char *name) {
    static const char *const ends[] = {".kernel", ".scale"};
    for (size_t i = 0; i < 2; i++)
        if (ends_with(name, ends[i]))
            return arena_printf(a, "%.*s.weight", (int)(strlen(name) - strlen(ends[i])), name);
    return arena_strdup(a, name);
}

/* The kernel's sides come first: both small and equal, which the numbers of channels are not. */
static bool sides_first(const SafeTensor *t) {
    const bool first = t->dim[0] == t->dim[1] && t->dim[0] <= SMALL_KERNEL,
               last = t->dim[2] == t->dim[3] && t->dim[2] <= SMALL_KERNEL;
    return first && (!last || ends_with(t->name, ".kernel"));
}

/* [kh,kw,in,out] -> [out,in,kh,kw] as float32 */
static int turn(Arena *a, SafeTensor *t, Error *err) {
    const size_t sides = (size_t)(t->dim[0] * t->dim[1]), in = (size_t)t->dim[2], out = (size_t)t->dim[3];
    float *from = arena_alloc(a, sides * in * out * sizeof *from), *to = arena_alloc(a, sides * in * out * sizeof *to);
    if (!from || !to) return fail(err, DRPO_E_MEMORY, "latent feature network: out of memory");
    dtype_to_f32(t->dtype, t->data, 0, sides * in * out, from);
    for (size_t s = 0; s < sides; s++)
        for (size_t i = 0; i < in; i++)
            for (size_t o = 0; o < out; o++) to[(o * in + i) * sides + s] = from[(s * in + i) * out + o];
    const int64_t dim[4] = {t->dim[3], t->dim[2], t->dim[0], t->dim[1]};
    memcpy(t->dim, dim, sizeof dim);
    t->dtype = DT_F32;
    t->data = to;
    t->bytes = sides * in * out * sizeof *to;
    return 0;
}

static int take_tensors(const SafeFile *f, WeightsParts *parts, Error *err) {
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const SafeTensor *t = safetensors_at(f, i);
        if (strncmp(bare_name(t->name), "encoder.", 8) != 0) continue;
        SafeTensor *own = &parts->tensor[parts->count++];
        *own = *t;
        if (t->rank == 4 && sides_first(t)) TRY(turn(parts->arena, own, err));
        own->name = final_name(parts->arena, bare_name(t->name));
        if (!own->name) return fail(err, DRPO_E_MEMORY, "%s: out of memory", parts->path);
    }
    return parts->count ? 0 : fail(err, DRPO_E_INPUT, "%s: holds no tensor 'encoder.*'", parts->path);
}

static const SafeTensor *find(const WeightsParts *p, const char *format, int stage, int block) {
    char name[NAME_LENGTH];
    snprintf(name, sizeof name, format, stage, block);
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->tensor[i].name, name) == 0) return &p->tensor[i];
    return NULL;
}

static int largest_divisor(int width) {
    int groups = width < MOST_GROUPS ? width : MOST_GROUPS;
    while (groups > 1 && width % groups) groups--;
    return groups;
}

static int read_shapes(const WeightsParts *p, LatentResnetConfig *c, Error *err) {
    const SafeTensor *stem = find(p, "encoder.conv1.weight", 0, 0);
    if (!stem || stem->rank != 4) return fail(err, DRPO_E_INPUT, "%s: tensor 'encoder.conv1' is missing", p->path);
    *c = (LatentResnetConfig){.in_channels = (int)stem->dim[1], .norm_eps = 1e-5f, .std_eps = 1e-6f};
    for (int s = 0; s < RESNET_MAX_STAGES; s++) {
        const SafeTensor *first = find(p, "encoder.stages_%d.layers_%d.conv2.weight", s, 0);
        if (!first) break;
        c->width[s] = (int)first->dim[0];
        if (first->rank != 4 || c->width[s] < 1)
            return fail(err, DRPO_E_INPUT, "%s: tensor '%s' has a strange shape", p->path, first->name);
        c->groups[s] = largest_divisor(c->width[s]);
        c->stages = s + 1;
        while (find(p, "encoder.stages_%d.layers_%d.conv2.weight", s, c->blocks[s])) c->blocks[s]++;
    }
    return c->stages ? 0 : fail(err, DRPO_E_INPUT, "%s: tensor 'encoder.stages_0.layers_0.conv2' is missing", p->path);
}

static int read_parts(WeightsParts *parts, LatentResnetConfig *c, Error *err) {
    parts->tensor = arena_alloc(parts->arena, (safetensors_count(parts->file[0]) + 1) * sizeof(SafeTensor));
    if (!parts->tensor) return fail(err, DRPO_E_MEMORY, "%s: out of memory", parts->path);
    TRY(take_tensors(parts->file[0], parts, err));
    return read_shapes(parts, c, err);
}

int latent_resnet_open(const char *path, LatentResnetConfig *c, Weights **out, Error *err) {
    WeightsParts parts = {.arena = arena_new()};
    int code = weights_parts_map(&parts, path, err);
    if (code == 0) code = read_parts(&parts, c, err);
    return weights_from(&parts, code, out, err);
}
