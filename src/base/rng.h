/* Random numbers that depend on nothing but their key.
 *
 * philox_*: Philox4x32-10 (Salmon et al., 2011). Noise of candidate c of prompt p in step t of seed s is a pure
 * function of (s, stream, t, p, c): the same whatever the chunking, thread count or order of work. mt19937_*: the
 * Mersenne Twister and normal transform of torch.randn on the CPU (tensors of 16 numbers or more), for runs that must
 * start from the same noise as PyTorch; torch_cuda_*: the same for torch.randn on a CUDA device. */
#ifndef DRPO_BASE_RNG_H
#define DRPO_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Streams keep uses of one seed apart. */
enum {
    RNG_NOISE = 1,
    RNG_LORA = 2,
    RNG_PROMPTS = 3,
    RNG_EVAL = 4,
    RNG_BOOTSTRAP = 5,
    RNG_NEIGHBOUR = 6,
    RNG_METHOD = 7,
    RNG_FEATURE = 8,
    RNG_TICKET = 9,
    RNG_DROPOUT = 10,
    RNG_START = 11,
    RNG_SCENES = 12,
    RNG_WEIGHTS = 13,
    RNG_TEST = 99
};

typedef struct RngKey {
    uint64_t seed;
    uint32_t stream, step, prompt, candidate;
} RngKey;

void rng_normal(RngKey key, float *out, size_t n);                      /* N(0,1) */
void rng_uniform(RngKey key, float lo, float hi, float *out, size_t n); /* [lo,hi) */
/* Philox blocks `block`, block + 1, ... of the key, four words each. */
void rng_words(RngKey key, uint64_t block, uint32_t *out, size_t n);
uint64_t rng_bits(RngKey key, uint64_t index);          /* the index-th 64-bit word of the key */
size_t rng_below(RngKey key, uint64_t index, size_t n); /* integer in [0,n) */

typedef struct Mt19937 {
    uint32_t state[624];
    int next;
} Mt19937;

void mt19937_seed(Mt19937 *g, uint64_t seed);
uint32_t mt19937_next(Mt19937 *g);
/* Exactly what torch.randn(n, generator=g) draws for n >= 16 (float32, contiguous), up to the last bit of log/cos/sin.
 */
void mt19937_normal(Mt19937 *g, float *out, size_t n);

/* One torch.randn of `total` numbers on a CUDA device (torch_cuda.c). */
typedef struct TorchCudaDraw {
    uint64_t seed, offset; /* of torch.Generator("cuda"); a fresh generator has offset 0 */
    size_t total;
    size_t blocks; /* of 256 threads that the device runs at once; 0: as many as the tensor has work for */
} TorchCudaDraw;

/* Numbers first..first+count-1 of the draw. */
void torch_cuda_normal(const TorchCudaDraw *d, size_t first, size_t count, float *out);
/* What the draw adds to the generator's offset. */
uint64_t torch_cuda_advance(const TorchCudaDraw *d);

#endif
