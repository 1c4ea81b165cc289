/* Random numbers of a key: Philox4x32-10 (Salmon et al., 2011), the noise of every update.
 *
 * A key's words are blocks 0, 1, 2, ... of Philox with counter (block, step, prompt, candidate) under the pair of words
 * that Philox makes of (seed, stream). Normals: z = sqrt(-2 ln u1) (cos, sin)(2 pi u2), two pairs from each block. */
#include "base/rng.h"

#include <math.h>

#include "base/philox.h"

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u; /* Weyl sequence: golden ratio and sqrt(3) - 1 */
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void stream_key(RngKey key, uint64_t block, uint32_t pair[2]) {
    uint32_t seed[2] = {(uint32_t)key.seed, (uint32_t)(key.seed >> 32)};
    uint32_t counter[4] = {key.stream, (uint32_t)(block >> 32), 0, 0};
    uint32_t out[4];
    philox_block(counter, seed, out);
    pair[0] = out[0], pair[1] = out[1];
}

static void key_block(RngKey key, const uint32_t pair[2], uint32_t block, uint32_t out[4]) {
    uint32_t counter[4] = {block, key.step, key.prompt, key.candidate};
    philox_block(counter, pair, out);
}

static void normal_pair(uint32_t a, uint32_t b, float *first, float *second) {
    double u1 = ((double)a + 1.0) * 0x1p-32; /* (0,1]: the logarithm stays finite */
    double radius = sqrt(-2.0 * log(u1));
    double angle = 2.0 * M_PI * 0x1p-32 * (double)b;
    *first = (float)(radius * cos(angle));
    *second = (float)(radius * sin(angle));
}

void rng_normal(RngKey key, float *out, size_t n) {
    uint32_t pair[2] = {0}, words[4];
    float z[4];
    for (size_t i = 0; i < n; i += 4) {
        uint64_t block = i / 4;
        if ((uint32_t)block == 0) stream_key(key, block, pair);
        key_block(key, pair, (uint32_t)block, words);
        normal_pair(words[0], words[1], &z[0], &z[1]);
        normal_pair(words[2], words[3], &z[2], &z[3]);
        for (size_t j = i; j < n && j < i + 4; j++) out[j] = z[j - i];
    }
}

void rng_uniform(RngKey key, float lo, float hi, float *out, size_t n) {
    uint32_t pair[2] = {0}, words[4];
    float below_hi = nextafterf(hi, lo); /* rounding must not reach hi */
    for (size_t i = 0; i < n; i += 4) {
        uint64_t block = i / 4;
        if ((uint32_t)block == 0) stream_key(key, block, pair);
        key_block(key, pair, (uint32_t)block, words);
        for (size_t j = i; j < n && j < i + 4; j++) {
            float value = lo + (hi - lo) * ((float)(words[j - i] >> 8) * 0x1p-24f);
            out[j] = value < hi ? value : below_hi;
        }
    }
}

void rng_words(RngKey key, uint64_t block, uint32_t *out, size_t n) {
    uint32_t pair[2], words[4];
    stream_key(key, block, pair);
    for (size_t i = 0; i < n; i += 4, block++) {
        if (i && (uint32_t)block == 0) stream_key(key, block, pair);
        key_block(key, pair, (uint32_t)block, words);
        for (size_t j = i; j < n && j < i + 4; j++) out[j] = words[j - i];
    }
}

uint64_t rng_bits(RngKey key, uint64_t index) {
    uint32_t pair[2], words[4];
    uint64_t block = index / 2;
    stream_key(key, block, pair);
    key_block(key, pair, (uint32_t)block, words);
    size_t half = (size_t)(index % 2) * 2;
    return (uint64_t)words[half + 1] << 32 | words[half];
}

size_t rng_below(RngKey key, uint64_t index, size_t n) {
    return (size_t)(((unsigned __int128)rng_bits(key, index) * n) >> 64);
}
