/* CLIP tokenizer: prompt -> ids, the first stage of the update.
 *
 *     raw text -> special tokens cut out -> NFC, lower case -> words by a pattern -> byte pairs -> start, ids, end,
 * padding
 *
 * as transformers' CLIPTokenizer does it, whose rules for special tokens decide what "a red star!" means when "!" pads.
 */
#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "format/utf8.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_special.h"
#include "model/unicode.h"
#include "model/word_pattern.h"

/* Group 1: the text of a special token that came from lower-casing. White space is Unicode's property of that name. */
static const char PATTERN[] = "(<\\|startoftext\\|>|<\\|endoftext\\|>)|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|"
                              "[^\\p{L}\\p{N}\\t-\\r\\x{85}\\p{Z}]+";

struct Tokenizer {
    Bpe *bpe;
    SpecialTokens special;
    pcre2_code *pattern;
};

/* One prompt on its way through. */
typedef struct Encoding {
    const Tokenizer *t;
    pcre2_match_data *match;
    TokenIds ids;
    size_t enough; /* more ids than this cannot matter */
    Error *err;
} Encoding;

int tokenizer_length(const Tokenizer *t) { return t->special.length; }
int tokenizer_vocab(const Tokenizer *t) { return bpe_size(t->bpe); }

int tokenizer_open(const char *folder, Tokenizer **out, Error *err) {
    *out = NULL;
    Tokenizer *t = calloc(1, sizeof *t);
    if (!t) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    int code = bpe_open(folder, &t->bpe, err);
    if (code >= 0) code = special_tokens_read(folder, t->bpe, &t->special, err);
    if (code >= 0) code = word_pattern_compile(PATTERN, &t->pattern, err);
    if (code < 0) {
        tokenizer_free(t);
        return code;
    }
    *out = t;
    return 0;
}

void tokenizer_free(Tokenizer *t) {
    if (!t) return;
    bpe_free(t->bpe);
    special_tokens_free(&t->special);
    pcre2_code_free(t->pattern);
    free(t);
}

/* A second pattern cuts every word once more; it only matters for "<|name|>", which it parts into "<|", "name", "|>".
 */
static int encode_word(Encoding *e, const char *word, size_t n, bool named) {
    const Bpe *bpe = e->t->bpe;
    int32_t unknown = e->t->special.unknown;
    if (!named) return bpe_encode(bpe, word, n, unknown, &e->ids, e->err);
    TRY(bpe_encode(bpe, word, 2, unknown, &e->ids, e->err));
    TRY(bpe_encode(bpe, word + 2, n - 4, unknown, &e->ids, e->err));
    return bpe_encode(bpe, word + n - 2, 2, unknown, &e->ids, e->err);
}

static int encode_words(Encoding *e, const char *text, size_t size) {
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(e->match);
    for (size_t at = 0; at < size && e->ids.n <= e->enough; at = range[1]) {
        int found = pcre2_match(e->t->pattern, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, e->match, NULL);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) return fail(e->err, DRPO_E_INTERNAL, "tokenizer: PCRE2 failed with code %d", found);
        bool named = found > 1 && range[2] != PCRE2_UNSET;
        TRY(encode_word(e, text + range[0], range[1] - range[0], named));
    }
    return 0;
}

static int encode_normalized(Encoding *e, const char *text, size_t size) {
    char *lower = unicode_nfc_lower(text, size);
    if (!lower) return fail(e->err, DRPO_E_MEMORY, "tokenizer: out of memory");
    size_t at = 0, n = strlen(lower);
    int code = 0;
    while (code >= 0 && at < n && e->ids.n <= e->enough) {
        size_t start, length;
        const SpecialToken *token = special_tokens_find(&e->t->special, true, lower + at, n - at, &start, &length);
        code = encode_words(e, lower + at, start);
        if (code >= 0 && token) code = token_ids_push(&e->ids, token->id, e->err);
        at += start + length;
    }
    free(lower);
    return code;
}

static int encode_raw(Encoding *e, const char *text, size_t size) {
    for (size_t at = 0; at < size && e->ids.n <= e->enough;) {
        size_t start, length;
        const SpecialToken *token = special_tokens_find(&e->t->special, false, text + at, size - at, &start, &length);
        if (start > 0) TRY(encode_normalized(e, text + at, start));
        if (token) TRY(token_ids_push(&e->ids, token->id, e->err));
        at += start + length;
    }
    return 0;
}

int tokenizer_encode(const Tokenizer *t, const char *prompt, int32_t *ids, bool *truncated, Error *err) {
    const SpecialTokens *s = &t->special;
    size_t size = strlen(prompt), valid = utf8_valid_prefix(prompt, size), room = (size_t)s->length - 2;
    if (valid < size)
        return fail(err, DRPO_E_INPUT, "prompt is not valid UTF-8 at byte %zu; save it as UTF-8", valid + 1);
    Encoding e = {.t = t, .match = pcre2_match_data_create_from_pattern(t->pattern, NULL), .enough = room, .err = err};
    int code = e.match ? encode_raw(&e, prompt, size) : fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    if (code >= 0) {
        size_t n = e.ids.n < room ? e.ids.n : room;
        ids[0] = s->start;
        if (n > 0) memcpy(ids + 1, e.ids.id, n * sizeof *ids);
        ids[n + 1] = s->end;
        for (size_t i = n + 2; i < (size_t)s->length; i++) ids[i] = s->padding;
        if (truncated) *truncated = e.ids.n > room;
    }
    pcre2_match_data_free(e.match);
    free(e.ids.id);
    return code;
}
