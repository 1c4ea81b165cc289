/* NFC, NFD and lower case, the first step of tokenizing a prompt.
 *
 * NFC = decompose every character as far as it goes, sort runs of combining marks by their class, then compose each
 * starter with the marks that follow it unless a mark of the same or a higher class stands between (Unicode annex 15).
 * Hangul syllables follow a formula instead of the tables. */
#include "model/unicode.h"

#include <stdbool.h>
#include <stdlib.h>

#include "model/unicode_tables.h"

enum {
    HANGUL = 0xac00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11a7,
    COUNT_L = 19,
    COUNT_V = 21,
    COUNT_T = 28
};
enum { HANGUL_COUNT = COUNT_L * COUNT_V * COUNT_T, CAPITAL_I_DOT = 0x130, DOT_ABOVE = 0x307 };

typedef struct Characters {
    uint32_t *code;
    size_t n, room;
    bool failed; /* out of memory */
} Characters;

uint32_t utf8_next(const char *text, size_t *at) {
    const uint8_t *p = (const uint8_t *)text + *at;
    int more = p[0] < 0x80 ? 0 : p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? p[0] : p[0] & (0x3fu >> more);
    for (int i = 1; i <= more; i++) c = c << 6 | (p[i] & 0x3fu);
    *at += (size_t)more + 1;
    return c;
}

size_t utf8_put(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> n & 0xf0) | c);
    return n;
}

static void push(Characters *s, uint32_t c) {
    if (s->n == s->room) {
        size_t room = 2 * s->room + 64;
        uint32_t *code = realloc(s->code, room * sizeof *code);
        if (!code) {
            s->failed = true;
            return;
        }
        s->code = code;
        s->room = room;
    }
    s->code[s->n++] = c;
}

static int combining_class(uint32_t c) {
    if (c < unicode_class[0].first) return 0;
    int low = 0, high = unicode_classes - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (c < unicode_class[middle].first)
            high = middle - 1;
        else if (c > unicode_class[middle].last)
            low = middle + 1;
        else
            return unicode_class[middle].kind;
    }
    return 0;
}

static const UnicodeStep *find_step(uint32_t c) {
    int low = 0, high = unicode_steps - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (unicode_step[middle].code == c) return &unicode_step[middle];
        if (c < unicode_step[middle].code)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return NULL;
}

static void decompose(Characters *s, uint32_t c) {
    if (c >= HANGUL && c < HANGUL + HANGUL_COUNT) {
        uint32_t index = c - HANGUL, tail = index % COUNT_T;
        push(s, HANGUL_L + index / (COUNT_V * COUNT_T));
        push(s, HANGUL_V + index / COUNT_T % COUNT_V);
        if (tail) push(s, HANGUL_T + tail);
        return;
    }
    const UnicodeStep *step = c < unicode_step[0].code ? NULL : find_step(c);
    if (!step) {
        push(s, c);
        return;
    }
    decompose(s, step->first);
    if (step->second) decompose(s, step->second);
}

static int by_class(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Marks between two starters, by class and then by place. One key holds class, place and code: 8, 35 and 21 bits. */
static bool sort_marks(uint32_t *code, size_t n) {
    uint64_t *key = malloc(n * sizeof *key);
    if (!key) return false;
    for (size_t i = 0; i < n; i++) key[i] = (uint64_t)combining_class(code[i]) << 56 | (uint64_t)i << 21 | code[i];
    qsort(key, n, sizeof *key, by_class);
    for (size_t i = 0; i < n; i++) code[i] = (uint32_t)(key[i] & 0x1fffff);
    free(key);
    return true;
}

static void order_marks(Characters *s) {
    for (size_t i = 0; i < s->n;) {
        size_t end = i;
        while (end < s->n && combining_class(s->code[end]) != 0) end++;
        if (end - i > 1 && !sort_marks(s->code + i, end - i)) s->failed = true;
        i = end > i ? end : i + 1;
    }
}

/* The character that a and b make together, 0 if none. */
static uint32_t composed(uint32_t a, uint32_t b) {
    if (a - HANGUL_L < COUNT_L && b - HANGUL_V < COUNT_V)
        return HANGUL + ((a - HANGUL_L) * COUNT_V + (b - HANGUL_V)) * COUNT_T;
    if (a - HANGUL < HANGUL_COUNT && (a - HANGUL) % COUNT_T == 0 && b - HANGUL_T - 1 < COUNT_T - 1)
        return a + b - HANGUL_T;
    int low = 0, high = unicode_pairs - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        const UnicodeStep *step = &unicode_step[unicode_pair[middle]];
        if (step->first == a && step->second == b) return step->code;
        if (a < step->first || (a == step->first && b < step->second))
            high = middle - 1;
        else
            low = middle + 1;
    }
    return 0;
}

static void compose(Characters *s) {
    size_t out = 0, starter = 0;
    bool have_starter = false;
    int last = 0; /* class of the mark kept most recently after the starter; 0: none yet */
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = s->code[i];
        int kind = combining_class(c);
        bool blocked = out > starter + 1 && last >= kind;
        uint32_t both = have_starter && !blocked ? composed(s->code[starter], c) : 0;
        if (both) {
            s->code[starter] = both;
            continue;
        }
        if (kind == 0) {
            starter = out;
            have_starter = true;
        }
        last = kind;
        s->code[out++] = c;
    }
    s->n = out;
}

static uint32_t lower(uint32_t c) {
    int low = 0, high = unicode_lower_ranges - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        const UnicodeLower *r = &unicode_lower_range[middle];
        if (c < r->first)
            high = middle - 1;
        else if (c > r->last)
            low = middle + 1;
        else
            return (c - r->first) % (uint32_t)r->stride == 0 ? (uint32_t)((int64_t)c + r->delta) : c;
    }
    return c;
}

static char *encode(const Characters *s, bool lower_case) {
    char *text = malloc(5 * s->n + 1); /* a capital I with dot needs 3 bytes, all others at most 4 */
    if (!text) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        bool dotted = lower_case && s->code[i] == CAPITAL_I_DOT;
        n += utf8_put(dotted ? 'i' : lower_case ? lower(s->code[i]) : s->code[i], text + n);
        if (dotted) n += utf8_put(DOT_ABOVE, text + n);
    }
    text[n] = 0;
    return text;
}

static char *normalize(const char *text, size_t size, bool composing, bool lower_case) {
    Characters s = {0};
    for (size_t at = 0; at < size && !s.failed;) decompose(&s, utf8_next(text, &at));
    if (!s.failed) order_marks(&s);
    if (!s.failed && composing) compose(&s);
    char *out = s.failed ? NULL : encode(&s, lower_case);
    free(s.code);
    return out;
}

char *unicode_nfc_lower(const char *text, size_t size) { return normalize(text, size, true, true); }
char *unicode_nfc(const char *text, size_t size) { return normalize(text, size, true, false); }
char *unicode_nfd_lower(const char *text, size_t size) { return normalize(text, size, false, true); }
