/* Noise of torch.randn on a CUDA device (float32, contiguous), from Philox4x32-10.
 *
 * The tensor is filled by min(blocks, ceil(total / 256)) blocks of 256 threads; with T threads in all, thread t makes
 * the numbers t, t + T, t + 2T, ... Its k-th number is the (k mod 4)-th normal of Philox block
 * (offset / 4 + k / 4, t) under the seed. Of the block's four words each pair gives two normals:
 *
 *     u = x 2^-32 + 2^-33,  v = 2 pi (y 2^-32 + 2^-33),  z = sqrt(-2 ln u) (sin v, cos v)
 *
 * A generator's offset grows with every draw by the four words of each round that a thread went through. The device
 * takes a fast sine, so its numbers differ from these by about one millionth. */
#include <math.h>

#include "base/philox.h"
#include "base/rng.h"

enum { BLOCK_THREADS = 256, PER_ROUND = 4 };

static size_t thread_count(const TorchCudaDraw *d) {
    size_t blocks = (d->total + BLOCK_THREADS - 1) / BLOCK_THREADS;
    if (d->blocks && d->blocks < blocks) blocks = d->blocks;
    return blocks * BLOCK_THREADS;
}

uint64_t torch_cuda_advance(const TorchCudaDraw *d) {
    if (d->total == 0) return 0;
    return ((d->total - 1) / (thread_count(d) * PER_ROUND) + 1) * PER_ROUND;
}

/* Single precision on purpose: the device rounds here. */
static float normal_of(const uint32_t word[4], size_t k) {
    const float unit = 0x1p-32f, turn = 0x1p-32f * 6.2831855f;
    size_t pair = k / 2 * 2;
    float u = fmaf((float)word[pair], unit, unit / 2);
    float v = fmaf((float)word[pair + 1], turn, turn / 2);
    float radius = sqrtf(-2.0f * logf(u));
    return radius * (k % 2 ? cosf(v) : sinf(v));
}

void torch_cuda_normal(const TorchCudaDraw *d, size_t first, size_t count, float *out) {
    const uint32_t key[2] = {(uint32_t)d->seed, (uint32_t)(d->seed >> 32)};
    const size_t threads = thread_count(d);
    for (size_t i = 0; i < count; i++) {
        uint64_t thread = (first + i) % threads, k = (first + i) / threads;
        uint64_t block = d->offset / PER_ROUND + k / PER_ROUND;
        uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)thread, (uint32_t)(thread >> 32)};
        uint32_t word[4];
        philox_block(counter, key, word);
        out[i] = normal_of(word, k % PER_ROUND);
    }
}
