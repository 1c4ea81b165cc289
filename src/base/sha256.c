/* SHA-256 (FIPS 180-4), for the fingerprints of models and prompt files in run records. Processors with instructions
 * for it are ten times as fast, which matters to models of several gigabytes. */
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "base/file.h"

enum { PIECE = 1 << 20 }; /* of a file, read at a time */

_Alignas(16) static const uint32_t ROUND_CONSTANTS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void compress_block(uint32_t hash[8], const uint8_t *block) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, hash, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t choose = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + s1 + choose + ROUND_CONSTANTS[i] + w[i];
        uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (int i = 0; i < 8; i++) hash[i] += v[i];
}

#if defined(__x86_64__)
/* Four rounds at a time; `w` holds the last 16 words of the schedule. State is kept as the instructions want it: a, b,
 * e, f in one register, c, d, g, h in the other. */
__attribute__((target("sha,sse4.1"))) static void compress_fast(uint32_t hash[8], const uint8_t *data, size_t blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i w[4], cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)hash), 0xb1);
    __m128i cdgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(hash + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, cdgh, 8);
    cdgh = _mm_blend_epi16(cdgh, cdab, 0xf0);
    for (; blocks > 0; blocks--, data += 64) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        for (int i = 0; i < 16; i++) {
            __m128i *now = &w[i & 3], *last = &w[(i + 3) & 3];
            if (i < 4)
                *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
            else
                *now = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) & 3]),
                                                          _mm_alignr_epi8(*last, w[(i + 2) & 3], 4)),
                                            *last);
            __m128i k = _mm_add_epi32(*now, _mm_load_si128((const __m128i *)(ROUND_CONSTANTS + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)hash, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(hash + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static bool has_instructions(void) {
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1u);
}
#endif

static void compress(uint32_t hash[8], const uint8_t *data, size_t blocks) {
#if defined(__x86_64__)
    if (has_instructions()) {
        compress_fast(hash, data, blocks);
        return;
    }
#endif
    for (size_t i = 0; i < blocks; i++) compress_block(hash, data + 64 * i);
}

typedef struct Sha256 {
    uint32_t hash[8];
    uint8_t tail[128]; /* what is left of the last 64 bytes; padding */
    size_t rest;
    uint64_t size;
} Sha256;

static void start(Sha256 *s) {
    *s = (Sha256){
        .hash = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

/* Only the last piece may have a size that is no multiple of 64. */
static void add(Sha256 *s, const uint8_t *bytes, size_t size) {
    size_t whole = size / 64 * 64;
    compress(s->hash, bytes, whole / 64);
    s->size += size;
    s->rest = size - whole;
    if (s->rest) memcpy(s->tail, bytes + whole, s->rest);
}

static void finish(Sha256 *s, char hex[65]) {
    s->tail[s->rest] = 0x80;
    size_t padded = s->rest < 56 ? 64 : 128;
    for (int i = 0; i < 8; i++) s->tail[padded - 1 - (size_t)i] = (uint8_t)(s->size * 8 >> (8 * i));
    compress(s->hash, s->tail, padded / 64);

    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 64; i++) hex[i] = digits[s->hash[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = 0;
}

void sha256_hex(const void *data, size_t size, char hex[65]) {
    Sha256 s;
    start(&s);
    add(&s, data, size);
    finish(&s, hex);
}

static int hash_stream(FILE *f, const char *path, char hex[65], Error *err) {
    Sha256 s;
    uint8_t *piece = malloc(PIECE);
    if (!piece) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    start(&s);
    size_t got;
    while ((got = fread(piece, 1, PIECE, f)) == PIECE) add(&s, piece, got);
    add(&s, piece, got);
    free(piece);
    if (ferror(f)) return fail_errno(err, DRPO_E_IO, "%s: cannot read", path);
    finish(&s, hex);
    return 0;
}

int sha256_file(const char *path, char hex[65], Error *err) {
    FILE *f = fopen(path, "rbe");
    if (!f) return fail_errno(err, DRPO_E_INPUT, "%s: cannot open", path);
    setvbuf(f, NULL, _IONBF, 0);
    int code = hash_stream(f, path, hex, err);
    fclose(f);
    return code;
}
