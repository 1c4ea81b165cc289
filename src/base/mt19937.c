/* The Mersenne Twister (Matsumoto and Nishimura, 1998) and the normal transform of torch.randn on the CPU.
 *
 * For 16 numbers or more PyTorch first fills the tensor with uniform 24-bit floats, then turns blocks of 16 into
 * normals: entry j < 8 of a block gives the radius, entry j + 8 the angle. A tail that is not a whole block is made by
 * drawing the last 16 entries again, so the block overlaps numbers that were already done. */
#include <math.h>

#include "base/rng.h"

enum { STATE = 624, SHIFT = 397, BLOCK = 16 };

void mt19937_seed(Mt19937 *g, uint64_t seed) {
    g->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < STATE; i++) g->state[i] = 1812433253u * (g->state[i - 1] ^ (g->state[i - 1] >> 30)) + i;
    g->next = STATE;
}

static void refill(Mt19937 *g) {
    uint32_t *s = g->state;
    for (int i = 0; i < STATE; i++) {
        uint32_t joined = (s[i] & 0x80000000u) | (s[(i + 1) % STATE] & 0x7fffffffu);
        s[i] = s[(i + SHIFT) % STATE] ^ (joined >> 1) ^ (joined & 1 ? 0x9908b0dfu : 0);
    }
    g->next = 0;
}

uint32_t mt19937_next(Mt19937 *g) {
    if (g->next >= STATE) refill(g);
    uint32_t y = g->state[g->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static void fill_uniform(Mt19937 *g, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = (float)(mt19937_next(g) & 0xffffffu) * 0x1p-24f;
}

static void block_to_normal(float block[BLOCK]) {
    for (int j = 0; j < BLOCK / 2; j++) {
        float radius = sqrtf(-2.0f * logf(1.0f - block[j]));
        float angle = 2.0f * (float)M_PI * block[j + BLOCK / 2];
        block[j] = radius * cosf(angle);
        block[j + BLOCK / 2] = radius * sinf(angle);
    }
}

void mt19937_normal(Mt19937 *g, float *out, size_t n) {
    if (n < BLOCK) { /* PyTorch uses another transform here; callers that need its numbers ask for 16 or more */
        float block[BLOCK];
        fill_uniform(g, block, BLOCK);
        block_to_normal(block);
        for (size_t i = 0; i < n; i++) out[i] = block[i];
        return;
    }
    fill_uniform(g, out, n);
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK) block_to_normal(out + i);
    if (n % BLOCK != 0) {
        fill_uniform(g, out + n - BLOCK, BLOCK);
        block_to_normal(out + n - BLOCK);
    }
}
