/* Byte-pair encoding, the last step of tokenizing a prompt.
 *
 * A vocabulary spells a token with one printable character per byte, CLIP's with "</w>" behind the last byte of a word.
 * Starting from single bytes, the pair of neighbours that stands first in merges.txt is joined, the leftmost one of
 * equals, until no pair is listed. A heap of candidate pairs keeps a word of n bytes at n log n. */
#include "model/tokenizer_bpe.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "model/unicode.h"

enum { BYTES = 256, MERGES_LIMIT = 64 << 20, MAX_ID = 1 << 24, LONGEST_TOKEN = 1024 };

typedef struct Merge { /* left, right -> joined; key 0: empty slot */
    uint64_t key;
    int32_t rank, joined;
} Merge;

struct Bpe {
    json_t *vocab;
    int size;
    int32_t byte[BYTES][2]; /* id of a byte, inside a word and at its end; -1: none */
    Merge *merge;           /* open addressing, `slots` is a power of two */
    size_t slots;
    bool unmarked; /* no "</w>" */
};

int token_ids_push(TokenIds *ids, int32_t id, Error *err) {
    if (ids->n == ids->room) {
        size_t room = 2 * ids->room + 64;
        int32_t *grown = realloc(ids->id, room * sizeof *grown);
        if (!grown) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
        ids->id = grown;
        ids->room = room;
    }
    ids->id[ids->n++] = id;
    return 0;
}

/* ---- vocabulary ---- */

int32_t bpe_find(const Bpe *b, const char *token) {
    const json_t *id = json_object_get(b->vocab, token);
    return id ? (int32_t)json_integer_value(id) : -1;
}

int bpe_size(const Bpe *b) { return b->size; }

static int check_vocab(Bpe *b, const char *path, Error *err) {
    const char *token;
    json_t *id;
    if (!json_is_object(b->vocab) || json_object_size(b->vocab) == 0)
        return fail(err, DRPO_E_INPUT, "%s: not a vocabulary (an object of token: id)", path);
    json_object_foreach(b->vocab, token, id) {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= MAX_ID)
            return fail(err, DRPO_E_INPUT, "%s: the id of token '%s' is not a number from 0 to %d", path, token,
                        MAX_ID - 1);
        if (value >= b->size) b->size = (int)value + 1;
    }
    return 0;
}

/* Printable bytes stand for themselves, the others for the characters from U+0100 on, in their order. */
static void find_bytes(Bpe *b) {
    uint32_t next = 0x100;
    for (int byte = 0; byte < BYTES; byte++) {
        bool printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
        char token[16] = {0};
        size_t n = utf8_put(printable ? (uint32_t)byte : next++, token);
        b->byte[byte][0] = bpe_find(b, token);
        if (!b->unmarked) memcpy(token + n, "</w>", 5);
        b->byte[byte][1] = bpe_find(b, token);
    }
}

/* ---- merges ---- */

static uint64_t pair_key(int32_t left, int32_t right) { return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1; }

static Merge *merge_slot(const Bpe *b, uint64_t key) {
    size_t at = (size_t)(key * 0x9e3779b97f4a7c15u >> 20) & (b->slots - 1);
    while (b->merge[at].key != 0 && b->merge[at].key != key) at = (at + 1) & (b->slots - 1);
    return &b->merge[at];
}

static const Merge *find_merge(const Bpe *b, int32_t left, int32_t right) {
    const Merge *m = merge_slot(b, pair_key(left, right));
    return m->key ? m : NULL;
}

/* Where a merge stands, for messages. */
typedef struct Place {
    const char *path, *unit;
    int number;
} Place;

static int add_pair(Bpe *b, const Place *place, int rank, const char *first, const char *second, Error *err) {
    char both[LONGEST_TOKEN];
    int n = snprintf(both, sizeof both, "%s%s", first, second);
    int32_t left = bpe_find(b, first), right = bpe_find(b, second), joined = bpe_find(b, both);
    if (n >= LONGEST_TOKEN || left < 0 || right < 0 || joined < 0)
        return fail(err, DRPO_E_INPUT, "%s %s %d: '%s' or one of its parts is not in the vocabulary", place->path,
                    place->unit, place->number, both);
    Merge *slot = merge_slot(b, pair_key(left, right));
    if (!slot->key) *slot = (Merge){pair_key(left, right), rank, joined};
    return 0;
}

static int add_merge(Bpe *b, const Place *place, int rank, char *text, Error *err) {
    char *space = strchr(text, ' ');
    if (!space || space == text || !space[1] || strchr(space + 1, ' '))
        return fail(err, DRPO_E_INPUT, "%s %s %d: expected two symbols separated by one space", place->path,
                    place->unit, place->number);
    *space = 0;
    return add_pair(b, place, rank, text, space + 1, err);
}

static int make_slots(Bpe *b, size_t merges, Error *err) {
    for (b->slots = 64; b->slots < 2 * merges;) b->slots *= 2;
    b->merge = calloc(b->slots, sizeof *b->merge);
    return b->merge ? 0 : fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
}

static int read_merges(Bpe *b, const char *path, Arena *arena, Error *err) {
    char *text;
    size_t size, lines = 1;
    TRY(file_read_text(path, MERGES_LIMIT, arena, &text, &size, err));
    if (strlen(text) != size) return fail(err, DRPO_E_INPUT, "%s: holds a zero byte, so it is not a text file", path);
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    TRY(make_slots(b, lines, err));
    int number = 0, rank = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        number++;
        line[strcspn(line, "\r")] = 0;
        if (!*line || strncmp(line, "#version", 8) == 0) continue;
        TRY(add_merge(b, &(Place){path, "line", number}, rank++, line, err));
    }
    return 0;
}

/* ---- tokenizer.json, which is all that newer versions of transformers write ---- */

/* Merges are pairs ["a", "b"], in older files texts "a b". */
static int read_listed_merges(Bpe *b, const char *path, const json_t *list, Arena *arena, Error *err) {
    TRY(make_slots(b, json_array_size(list) + 1, err));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *left = json_string_value(json_array_get(entry, 0));
        const char *right = json_string_value(json_array_get(entry, 1)), *text = json_string_value(entry);
        char *copy = text ? arena_strdup(arena, text) : NULL;
        if (text && !copy) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
        if (!copy && !(left && right))
            return fail(err, DRPO_E_INPUT, "%s: merge %zu is no pair of symbols", path, i + 1);
        const Place place = {path, "merge", (int)i + 1};
        TRY(copy ? add_merge(b, &place, (int)i, copy, err) : add_pair(b, &place, (int)i, left, right, err));
    }
    return 0;
}

static int read_model(Bpe *b, const char *path, const json_t *model, Arena *arena, Error *err) {
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if (b->unmarked && (suffix && *suffix))
        return fail(err, DRPO_E_INPUT, "%s: marks the ends of words with \"%s\", this model does not", path, suffix);
    if ((type && strcmp(type, "BPE") != 0) || (!b->unmarked && (!suffix || strcmp(suffix, "</w>") != 0)))
        return fail(err, DRPO_E_INPUT, "%s: is no tokenizer of CLIP (\"model\": BPE with end_of_word_suffix \"</w>\")",
                    path);
    b->vocab = json_incref(json_object_get(model, "vocab"));
    TRY(check_vocab(b, path, err));
    find_bytes(b);
    return read_listed_merges(b, path, json_object_get(model, "merges"), arena, err);
}

static int open_one_file(Bpe *b, const char *path, Arena *arena, Error *err) {
    json_t *root;
    TRY(json_load_path(path, &root, err));
    int code = read_model(b, path, json_object_get(root, "model"), arena, err);
    json_decref(root);
    return code;
}

static int open_files(Bpe *b, const char *folder, Arena *arena, Error *err) {
    char *vocab = path_join(arena, folder, "vocab.json"), *merges = path_join(arena, folder, "merges.txt");
    char *all = path_join(arena, folder, "tokenizer.json");
    if (!vocab || !merges || !all) return fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    if (!file_exists(vocab) && file_exists(all)) return open_one_file(b, all, arena, err);
    TRY(json_load_path(vocab, &b->vocab, err));
    TRY(check_vocab(b, vocab, err));
    find_bytes(b);
    return read_merges(b, merges, arena, err);
}

static int open_kind(const char *folder, bool unmarked, Bpe **out, Error *err) {
    *out = NULL;
    Arena *arena = arena_new();
    Bpe *b = arena ? calloc(1, sizeof *b) : NULL;
    if (b) b->unmarked = unmarked;
    int code = b ? open_files(b, folder, arena, err) : fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    arena_free(arena);
    if (code < 0) {
        bpe_free(b);
        return code;
    }
    *out = b;
    return 0;
}

int bpe_open(const char *folder, Bpe **out, Error *err) { return open_kind(folder, false, out, err); }
int bpe_open_unmarked(const char *folder, Bpe **out, Error *err) { return open_kind(folder, true, out, err); }

void bpe_free(Bpe *b) {
    if (!b) return;
    json_decref(b->vocab);
    free(b->merge);
    free(b);
}

/* ---- one word ---- */

typedef struct Symbol {
    int32_t id;         /* -1: joined into its left neighbour */
    size_t left, right; /* neighbours; n at the ends */
} Symbol;

typedef struct Candidate { /* a pair of neighbours, valid while both still have these ids */
    int32_t rank, left_id, right_id, joined;
    size_t at;
} Candidate;

typedef struct Word {
    Symbol *symbol;
    Candidate *heap; /* the smallest (rank, at) on top */
    size_t n, waiting;
} Word;

static bool before(const Candidate *a, const Candidate *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static void heap_push(Word *w, Candidate c) {
    size_t i = w->waiting++;
    for (; i > 0 && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static Candidate heap_pop(Word *w) {
    Candidate top = w->heap[0], moved = w->heap[--w->waiting];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->waiting; i = child) {
        if (child + 1 < w->waiting && before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!before(&w->heap[child], &moved)) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = moved;
    return top;
}

static void consider(const Bpe *b, Word *w, size_t at) {
    if (at == w->n || w->symbol[at].right == w->n) return;
    int32_t left = w->symbol[at].id, right = w->symbol[w->symbol[at].right].id;
    const Merge *m = find_merge(b, left, right);
    if (m) heap_push(w, (Candidate){m->rank, left, right, m->joined, at});
}

static void join_all(const Bpe *b, Word *w) {
    for (size_t i = 0; i + 1 < w->n; i++) consider(b, w, i);
    while (w->waiting > 0) {
        Candidate c = heap_pop(w);
        Symbol *left = &w->symbol[c.at];
        if (left->id != c.left_id || left->right == w->n || w->symbol[left->right].id != c.right_id) continue;
        Symbol *right = &w->symbol[left->right];
        left->id = c.joined;
        right->id = -1;
        left->right = right->right;
        if (left->right != w->n) w->symbol[left->right].left = c.at;
        consider(b, w, left->left);
        consider(b, w, c.at);
    }
}

int bpe_encode(const Bpe *b, const char *word, size_t n, int32_t unknown, TokenIds *ids, Error *err) {
    /* n - 1 pairs at first, two more for each of at most n - 1 joins */
    Word w = {calloc(n, sizeof(Symbol)), malloc(3 * n * sizeof(Candidate)), n, 0};
    int code = w.symbol && w.heap ? 0 : fail(err, DRPO_E_MEMORY, "tokenizer: out of memory");
    for (size_t i = 0; code >= 0 && i < n; i++) {
        int32_t id = b->byte[(uint8_t)word[i]][i + 1 == n];
        w.symbol[i] = (Symbol){id < 0 ? unknown : id, i == 0 ? n : i - 1, i + 1};
    }
    if (code >= 0) join_all(b, &w);
    for (size_t i = 0; code >= 0 && i < n; i = w.symbol[i].right) code = token_ids_push(ids, w.symbol[i].id, err);
    free(w.symbol);
    free(w.heap);
    return code;
}
