/* WordPiece: text -> ids, the first stage of a reward that reads a prompt with BERT.
 *
 *     control characters away -> NFD, lower case, accents away -> words, each sign and each ideograph on its own ->
 *     from the left, the longest piece that the vocabulary has; pieces inside a word are spelt "##piece"
 *
 * A word that cannot be put together so, or is longer than 100 characters, becomes [UNK] as a whole. */
#include "model/tokenizer_wordpiece.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/utf8.h"
#include "model/unicode.h"
#include "model/word_pattern.h"

enum { VOCAB_LIMIT = 16 << 20, LONGEST_WORD = 100, LONGEST_PIECE = 4 * LONGEST_WORD };

#define SPACE "\\t-\\r\\x{85}\\p{Z}"
#define SIGN "!-/:-@\\[-`{-~\\p{P}"
#define IDEOGRAPH                                                                                                      \
    "\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{20000}-\\x{2A6DF}\\x{2A700}-\\x{2B73F}\\x{2B740}-\\x{2B81F}"            \
    "\\x{2B820}-\\x{2CEAF}\\x{F900}-\\x{FAFF}\\x{2F800}-\\x{2FA1F}"
static const char NO_TEXT[] = "(?![\\t\\n\\r])\\p{C}|\\x{FFFD}", ACCENT[] = "\\p{Mn}+";
static const char WORD[] = "[" SIGN IDEOGRAPH "]|[^" SPACE SIGN IDEOGRAPH "]+";

typedef struct Piece {
    const char *text;
    int32_t id;
} Piece;

struct WordPiece {
    Arena *arena;
    Piece *piece; /* sorted by text */
    size_t n;
    pcre2_code *no_text, *accent, *word;
    int32_t start, end, unknown;
};

/* ---- vocabulary ---- */

static int by_text(const void *a, const void *b) { return strcmp(((const Piece *)a)->text, ((const Piece *)b)->text); }

static int32_t find(const WordPiece *w, const char *text) {
    const Piece key = {text, 0};
    const Piece *found = bsearch(&key, w->piece, w->n, sizeof key, by_text);
    return found ? found->id : -1;
}

static int read_vocab(WordPiece *w, const char *path, Error *err) {
    char *text;
    size_t size, lines = 1;
    TRY(file_read_text(path, VOCAB_LIMIT, w->arena, &text, &size, err));
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    w->piece = arena_alloc(w->arena, lines * sizeof *w->piece);
    if (!w->piece) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        line[strcspn(line, "\r")] = 0;
        if (rest || *line) w->piece[w->n] = (Piece){line, (int32_t)w->n}, w->n++;
    }
    qsort(w->piece, w->n, sizeof *w->piece, by_text);
    w->start = find(w, "[CLS]");
    w->end = find(w, "[SEP]");
    w->unknown = find(w, "[UNK]");
    if (w->start >= 0 && w->end >= 0 && w->unknown >= 0) return 0;
    return fail(err, DRPO_E_INPUT, "%s: lacks [CLS], [SEP] or [UNK]; vocab.txt of bert-base-uncased belongs here",
                path);
}

static int open_all(WordPiece *w, const char *path, Error *err) {
    w->arena = arena_new();
    if (!w->arena) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    TRY(word_pattern_compile(NO_TEXT, &w->no_text, err));
    TRY(word_pattern_compile(ACCENT, &w->accent, err));
    TRY(word_pattern_compile(WORD, &w->word, err));
    return read_vocab(w, path, err);
}

int wordpiece_open(const char *path, WordPiece **out, Error *err) {
    *out = NULL;
    WordPiece *w = calloc(1, sizeof *w);
    if (!w) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    int code = open_all(w, path, err);
    if (code < 0) {
        wordpiece_free(w);
        return code;
    }
    *out = w;
    return 0;
}

void wordpiece_free(WordPiece *w) {
    if (!w) return;
    pcre2_code_free(w->no_text);
    pcre2_code_free(w->accent);
    pcre2_code_free(w->word);
    arena_free(w->arena);
    free(w);
}

int wordpiece_size(const WordPiece *w) { return (int)w->n; }

/* ---- text -> ids ---- */

/* The text without what the pattern matches; NULL: out of memory. The caller frees it. */
static char *without(const pcre2_code *pattern, const char *text) {
    PCRE2_SIZE room = strlen(text) + 1;
    char *out = malloc(room);
    int code = out ? pcre2_substitute(pattern, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0,
                                      PCRE2_SUBSTITUTE_GLOBAL | PCRE2_NO_UTF_CHECK, NULL, NULL, (PCRE2_SPTR) "", 0,
                                      (PCRE2_UCHAR *)out, &room)
                   : -1;
    if (code >= 0) return out;
    free(out);
    return NULL;
}

static char *normalize(const WordPiece *w, const char *text) {
    char *clean = without(w->no_text, text);
    char *lower = clean ? unicode_nfd_lower(clean, strlen(clean)) : NULL;
    char *bare = lower ? without(w->accent, lower) : NULL;
    free(clean);
    free(lower);
    return bare;
}

/* The longest piece at the beginning of word[at..n); its length in bytes, 0: none. */
static size_t longest_piece(const WordPiece *w, const char *word, size_t at, size_t n, int32_t *id) {
    char text[LONGEST_PIECE + 3];
    for (size_t end = n; end > at; end--) {
        if (end < n && ((unsigned char)word[end] & 0xc0) == 0x80) continue; /* inside a character */
        snprintf(text, sizeof text, "%s%.*s", at ? "##" : "", (int)(end - at), word + at);
        if ((*id = find(w, text)) >= 0) return end - at;
    }
    return 0;
}

static int encode_word(const WordPiece *w, const char *word, size_t n, TokenIds *ids, Error *err) {
    size_t characters = 0, before = ids->n;
    for (size_t i = 0; i < n; i++) characters += ((unsigned char)word[i] & 0xc0) != 0x80;
    if (characters > LONGEST_WORD) return token_ids_push(ids, w->unknown, err);
    for (size_t at = 0; at < n;) {
        int32_t id;
        size_t length = longest_piece(w, word, at, n, &id);
        if (!length) {
            ids->n = before;
            return token_ids_push(ids, w->unknown, err);
        }
        TRY(token_ids_push(ids, id, err));
        at += length;
    }
    return 0;
}

static int encode_words(const WordPiece *w, const char *text, size_t enough, TokenIds *ids, Error *err) {
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(w->word, NULL);
    if (!match) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
    const size_t size = strlen(text);
    int code = 0;
    for (size_t at = 0; code == 0 && at < size && ids->n < enough; at = range[1]) {
        int found = pcre2_match(w->word, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, match, NULL);
        if (found == PCRE2_ERROR_NOMATCH) break;
        code = found < 0 ? fail(err, DRPO_E_INTERNAL, "tokenizer: PCRE2 failed with code %d", found)
                         : encode_word(w, text + range[0], range[1] - range[0], ids, err);
    }
    pcre2_match_data_free(match);
    return code;
}

int wordpiece_encode(const WordPiece *w, const char *text, int most, TokenIds *ids, Error *err) {
    size_t size = strlen(text), valid = utf8_valid_prefix(text, size);
    if (valid < size)
        return fail(err, DRPO_E_INPUT, "prompt is not valid UTF-8 at byte %zu; save it as UTF-8", valid + 1);
    const size_t enough = ids->n + (size_t)most - 1; /* [SEP] needs one */
    char *plain = normalize(w, text);
    if (!plain) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    int code = token_ids_push(ids, w->start, err);
    if (code == 0) code = encode_words(w, plain, enough, ids, err);
    free(plain);
    TRY(code);
    if (ids->n > enough) ids->n = enough;
    return token_ids_push(ids, w->end, err);
}
