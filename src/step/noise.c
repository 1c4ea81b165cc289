/* Noise: where the candidates of a prompt begin, z ~ N(0,1).
 *
 * Counter-based by default, so that a candidate's noise is a function of (seed, update, prompt, candidate) and of
 * nothing else. PyTorch's generator and a file exist for runs that must start from given noise. In the update: noise ->
 * generate. */
#include "step/noise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"

struct NoiseSource {
    NoiseKind kind;
    uint64_t seed;
    size_t per_image;
    float neighbour;
    /* torch: the tensor [prompts,K,C,H,W] of one update, drawn whole because its last block depends on its size */
    Mt19937 generator;
    long step; /* the update that `drawn` belongs to; -1: none yet */
    int prompts, candidates;
    float *drawn;
    size_t batch, cuda_blocks; /* noise_torch */
    /* file */
    SafeFile *file;
    const SafeTensor *tensor;
    size_t rows;
};

static size_t element_count(const SafeTensor *t) {
    size_t count = 1;
    for (int k = 0; k < t->rank; k++) count *= (size_t)t->dim[k];
    return count;
}

/* True when the trailing dimensions, from some point on, hold exactly one image. */
static bool ends_in_images(const SafeTensor *t, size_t per_image) {
    size_t count = 1;
    for (int k = t->rank; k-- > 0;) {
        if (count == per_image) return true;
        count *= (size_t)t->dim[k];
    }
    return count == per_image;
}

static int open_file(NoiseSource *n, const char *path, Error *err) {
    if (!path || !*path) return fail(err, DRPO_E_USAGE, "noise from a file needs a path to a safetensors file");
    TRY(safetensors_open(path, &n->file, err));
    n->tensor = safetensors_find(n->file, "noise");
    if (!n->tensor) return fail(err, DRPO_E_INPUT, "%s: no tensor 'noise'; store it under that name", path);
    const DType type = n->tensor->dtype;
    if (type != DT_F32 && type != DT_F16 && type != DT_BF16 && type != DT_F64)
        return fail(err, DRPO_E_INPUT, "%s: 'noise' has type %s; store floating-point numbers", path, dtype_name(type));
    if (!ends_in_images(n->tensor, n->per_image))
        return fail(err, DRPO_E_INPUT,
                    "%s: the last dimensions of 'noise' do not make one image of %zu numbers; its shape must be "
                    "[images, C, H, W]",
                    path, n->per_image);
    n->rows = element_count(n->tensor) / n->per_image;
    return n->rows ? 0 : fail(err, DRPO_E_INPUT, "%s: 'noise' is empty", path);
}

int noise_open(NoiseKind kind, const char *path, uint64_t seed, size_t per_image, float neighbour, NoiseSource **out,
               Error *err) {
    *out = NULL;
    if (!per_image) return fail(err, DRPO_E_INTERNAL, "noise for images of no size");
    if (!(neighbour >= 0 && neighbour <= 1))
        return fail(err, DRPO_E_USAGE, "neighbour %g must lie between 0 (independent candidates) and 1",
                    (double)neighbour);
    NoiseSource *n = calloc(1, sizeof *n);
    if (!n) return fail(err, DRPO_E_MEMORY, "no memory for the noise source");
    *n = (NoiseSource){.kind = kind, .seed = seed, .per_image = per_image, .neighbour = neighbour, .step = -1};
    if (kind == NOISE_TORCH) mt19937_seed(&n->generator, seed);
    const int code = kind == NOISE_FILE ? open_file(n, path, err) : 0;
    if (code < 0)
        noise_close(n);
    else
        *out = n;
    return code;
}

void noise_close(NoiseSource *n) {
    if (!n) return;
    safetensors_close(n->file);
    free(n->drawn);
    free(n);
}

void noise_torch(NoiseSource *n, size_t batch, size_t cuda_blocks) {
    n->batch = batch;
    n->cuda_blocks = cuda_blocks;
}

int noise_require(const NoiseSource *n, size_t images, Error *err) {
    if (n->kind != NOISE_FILE || images <= n->rows) return 0;
    return fail(err, DRPO_E_INPUT, "%s: 'noise' holds %zu images, %zu are needed; give more, or draw fewer",
                safetensors_path(n->file), n->rows, images);
}

/* Makes `drawn` the tensor of `step`, drawing those between; an earlier step or another shape replays from the start.
 */
static int torch_advance(NoiseSource *n, long step, int prompts, int k, Error *err) {
    const size_t count = (size_t)prompts * (size_t)k * n->per_image;
    if (n->drawn && (n->prompts != prompts || n->candidates != k)) {
        free(n->drawn);
        n->drawn = NULL;
    }
    if (!n->drawn || step < n->step) {
        mt19937_seed(&n->generator, n->seed);
        n->step = -1;
    }
    if (!n->drawn) n->drawn = malloc(count * sizeof(float));
    if (!n->drawn)
        return fail(err, DRPO_E_MEMORY, "no memory for the noise of %d prompts of %d candidates", prompts, k);
    n->prompts = prompts;
    n->candidates = k;
    for (; n->step < step; n->step++) mt19937_normal(&n->generator, n->drawn, count);
    return 0;
}

/* Draw number `draw` of a fresh generator, all draws having `total` numbers. */
static void cuda_draw(const NoiseSource *n, uint64_t seed, long draw, size_t total, size_t first, size_t count,
                      float *out) {
    TorchCudaDraw d = {.seed = seed, .total = total, .blocks = n->cuda_blocks};
    d.offset = (uint64_t)draw * torch_cuda_advance(&d);
    torch_cuda_normal(&d, first, count, out);
}

static int file_rows(const NoiseSource *n, size_t first, size_t count, float *out, Error *err) {
    if (first + count > n->rows)
        return fail(err, DRPO_E_INPUT,
                    "%s: rows %zu to %zu of 'noise' are needed but it holds %zu; give more rows or run fewer updates",
                    safetensors_path(n->file), first, first + count - 1, n->rows);
    dtype_to_f32(n->tensor->dtype, n->tensor->data, first * n->per_image, count * n->per_image, out);
    for (size_t i = 0; i < count * n->per_image; i++)
        if (!isfinite(out[i]))
            return fail(err, DRPO_E_INPUT, "%s: row %zu of 'noise' holds a NaN or an infinity",
                        safetensors_path(n->file), first + i / n->per_image);
    return 0;
}

/* z = sqrt(1 - s^2) z0 + s d: the candidates d gather round the prompt's own z0. */
static int gather(const NoiseSource *n, long step, int prompt, int k, float *out, Error *err) {
    float *centre = malloc(n->per_image * sizeof(float));
    if (!centre) return fail(err, DRPO_E_MEMORY, "no memory for the common noise of a prompt");
    rng_normal((RngKey){n->seed, RNG_NEIGHBOUR, (uint32_t)step, (uint32_t)prompt, 0}, centre, n->per_image);
    const float s = n->neighbour, rest = sqrtf(1 - s * s);
    for (int c = 0; c < k; c++)
        for (size_t i = 0; i < n->per_image; i++) {
            float *z = &out[(size_t)c * n->per_image + i];
            *z = rest * centre[i] + s * *z;
        }
    free(centre);
    return 0;
}

/* Candidates first..first+k-1, each with a key of its own. */
static void keyed(const NoiseSource *n, long step, int prompt, int first, int k, float *out) {
    for (int c = 0; c < k; c++)
        rng_normal((RngKey){n->seed, RNG_NOISE, (uint32_t)step, (uint32_t)prompt, (uint32_t)(first + c)},
                   out + (size_t)c * n->per_image, n->per_image);
}

int noise_candidates(NoiseSource *n, long step, int prompt, int prompts, int k, float *out, Error *err) {
    if (step < 0 || prompt < 0 || prompt >= prompts || k < 1)
        return fail(err, DRPO_E_INTERNAL, "noise of %d candidates for prompt %d of %d in update %ld does not exist", k,
                    prompt, prompts, step);
    const size_t block = (size_t)k * n->per_image;
    if (n->kind == NOISE_TORCH) {
        TRY(torch_advance(n, step, prompts, k, err));
        memcpy(out, n->drawn + (size_t)prompt * block, block * sizeof(float));
    } else if (n->kind == NOISE_TORCH_CUDA) {
        cuda_draw(n, n->seed, step, (size_t)prompts * block, (size_t)prompt * block, block, out);
    } else if (n->kind == NOISE_FILE) {
        TRY(file_rows(n, ((size_t)step * (size_t)prompts + (size_t)prompt) * (size_t)k, (size_t)k, out, err));
    } else {
        keyed(n, step, prompt, 0, k, out);
    }
    return n->neighbour > 0 ? gather(n, step, prompt, k, out, err) : 0;
}

int noise_round(NoiseSource *n, long step, int prompt, int prompts, int k, int round, int rounds, float *out,
                Error *err) {
    if (n->kind == NOISE_TORCH && rounds > 1)
        return fail(err, DRPO_E_USAGE,
                    "--rounds above 1 needs --rng philox or torch-cuda: torch.Generator(\"cpu\") has no "
                    "way back to a prompt");
    if (n->kind != NOISE_PHILOX || round == 0)
        return noise_candidates(n, n->kind == NOISE_PHILOX ? step : step * rounds + round, prompt, prompts, k, out,
                                err);
    keyed(n, step, prompt, round * k, k, out);
    return n->neighbour > 0 ? gather(n, step, prompt, k, out, err) : 0;
}

/* The images are rows of one tensor of n->batch images. */
static int batch_rows(NoiseSource *n, size_t first, size_t count, float *out, Error *err) {
    const size_t total = n->batch * n->per_image, at = first * n->per_image, size = count * n->per_image;
    if (first + count > n->batch)
        return fail(err, DRPO_E_INTERNAL, "images %zu to %zu of a batch of %zu do not exist", first, first + count - 1,
                    n->batch);
    if (n->kind == NOISE_TORCH_CUDA) {
        cuda_draw(n, n->seed, 0, total, at, size, out);
        return 0;
    }
    TRY(torch_advance(n, 0, 1, (int)n->batch, err));
    memcpy(out, n->drawn + at, size * sizeof(float));
    return 0;
}

static void own_noise(const NoiseSource *n, uint64_t seed, float *z) {
    if (n->kind == NOISE_TORCH) {
        Mt19937 fresh;
        mt19937_seed(&fresh, seed);
        mt19937_normal(&fresh, z, n->per_image);
    } else if (n->kind == NOISE_TORCH_CUDA) {
        cuda_draw(n, seed, 0, n->per_image, 0, n->per_image, z);
    } else {
        rng_normal((RngKey){seed, RNG_EVAL, 0, 0, 0}, z, n->per_image);
    }
}

int noise_images(NoiseSource *n, long first, int count, float *out, Error *err) {
    if (first < 0 || count < 0)
        return fail(err, DRPO_E_INTERNAL, "noise of %d images from image %ld does not exist", count, first);
    if (n->kind == NOISE_FILE) return file_rows(n, (size_t)first, (size_t)count, out, err);
    if (n->batch && n->kind != NOISE_PHILOX) return batch_rows(n, (size_t)first, (size_t)count, out, err);
    for (int i = 0; i < count; i++)
        own_noise(n, n->seed + (uint64_t)first + (uint64_t)i, out + (size_t)i * n->per_image);
    return 0;
}
