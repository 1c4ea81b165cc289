/* HPSv3's text: the first stage of its score.
 *
 *     system turn, user turn: <|vision_start|> one <|image_pad|> per state of the picture <|vision_end|>, the questions
 *     with the prompt in their slot, up to <|Reward|>
 *
 * The questions are the authors' (2590 bytes, every one of which counts), so they are read from a file. */
#include "model/hpsv3_prompt.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { QUESTIONS_LIMIT = 1 << 16, MOST_TOKENS = 1 << 14 };

static const char SLOT[] = "{text_prompt}", REWARD[] = "<|Reward|>";
static const char BEFORE_PICTURE[] =
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>";
static const char AFTER_PICTURE[] = "<|vision_end|>";

struct Hpsv3Prompt {
    Arena *arena;
    QwenTokenizer *tokenizer;
    const char *before, *after; /* the questions around their slot */
    int32_t reward, picture;
};

/* Exactly one `part` in the text, and where. */
static int find_once(const char *path, const char *text, const char *part, char **at, Error *err) {
    char *found = strstr(text, part);
    if (!found || strstr(found + 1, part))
        return fail(err, DRPO_E_INPUT,
                    "%s: must hold %s exactly once (the user text of HPSv3; 'drpo rewards' says where it is)", path,
                    part);
    if (at) *at = found;
    return 0;
}

static int read_questions(Hpsv3Prompt *p, const char *path, Error *err) {
    char *text, *slot = NULL;
    size_t size;
    TRY(file_read_text(path, QUESTIONS_LIMIT, p->arena, &text, &size, err));
    TRY(find_once(path, text, REWARD, NULL, err));
    TRY(find_once(path, text, SLOT, &slot, err));
    *slot = 0;
    p->before = text;
    p->after = slot + strlen(SLOT);
    if (strstr(p->after, REWARD)) return 0;
    return fail(err, DRPO_E_INPUT, "%s: %s must stand behind %s", path, REWARD, SLOT);
}

static int find_special(Hpsv3Prompt *p, const char *folder, Error *err) {
    static const char *const needed[] = {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
                                         "<|image_pad|>"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (qwen_tokenizer_find(p->tokenizer, needed[i]) < 0)
            return fail(err, DRPO_E_INPUT, "%s: the tokenizer has no token %s; Qwen2-VL-7B-Instruct's belongs here",
                        folder, needed[i]);
    p->picture = qwen_tokenizer_find(p->tokenizer, "<|image_pad|>");
    return qwen_tokenizer_add(p->tokenizer, REWARD, &p->reward, err);
}

static int open_all(Hpsv3Prompt *p, const char *folder, const char *questions, Error *err) {
    p->arena = arena_new();
    if (!p->arena) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    TRY(qwen_tokenizer_open(folder, &p->tokenizer, err));
    TRY(find_special(p, folder, err));
    return read_questions(p, questions, err);
}

int hpsv3_prompt_open(const char *folder, const char *questions, Hpsv3Prompt **out, Error *err) {
    *out = NULL;
    Hpsv3Prompt *p = calloc(1, sizeof *p);
    if (!p) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    int code = open_all(p, folder, questions, err);
    if (code < 0) {
        hpsv3_prompt_free(p);
        return code;
    }
    *out = p;
    return 0;
}

void hpsv3_prompt_free(Hpsv3Prompt *p) {
    if (!p) return;
    qwen_tokenizer_free(p->tokenizer);
    arena_free(p->arena);
    free(p);
}

int hpsv3_prompt_vocab(const Hpsv3Prompt *p) { return qwen_tokenizer_size(p->tokenizer); }

/* The last id is the reward token, and a prompt that spells a token of the chat has added none. */
static int cut_at_reward(const Hpsv3Prompt *p, int cells, Hpsv3Ids *out, Error *err) {
    size_t end = 0;
    int pictures = 0, rewards = 0;
    for (size_t i = 0; i < out->tokens.n; i++) {
        pictures += out->tokens.id[i] == p->picture;
        if (out->tokens.id[i] != p->reward) continue;
        rewards++;
        end = i + 1;
    }
    if (rewards != 1 || pictures != cells)
        return fail(err, DRPO_E_INPUT, "hpsv3: a prompt must not hold the special tokens %s or <|image_pad|>", REWARD);
    out->tokens.n = end;
    if (end > MOST_TOKENS)
        return fail(err, DRPO_E_INPUT, "hpsv3: a prompt of %zu tokens is longer than %d", end, MOST_TOKENS);
    return 0;
}

static int put_all(const Hpsv3Prompt *p, const char *prompt, int cells, Hpsv3Ids *out, Error *err) {
    TRY(qwen_tokenizer_encode(p->tokenizer, BEFORE_PICTURE, &out->tokens, err));
    out->picture_at = (int)out->tokens.n;
    for (int i = 0; i < cells; i++) TRY(token_ids_push(&out->tokens, p->picture, err));
    /* one text: words of the questions and of the prompt may run into each other */
    size_t size = strlen(AFTER_PICTURE) + strlen(p->before) + strlen(prompt) + strlen(p->after) + 1;
    char *text = malloc(size);
    if (!text) return fail(err, DRPO_E_MEMORY, "hpsv3: out of memory");
    char *end = stpcpy(stpcpy(text, AFTER_PICTURE), p->before);
    stpcpy(stpcpy(end, prompt), p->after);
    int code = qwen_tokenizer_encode(p->tokenizer, text, &out->tokens, err);
    free(text);
    return code < 0 ? code : cut_at_reward(p, cells, out, err);
}

int hpsv3_prompt_ids(const Hpsv3Prompt *p, const char *prompt, int cells, Hpsv3Ids *out, Error *err) {
    *out = (Hpsv3Ids){0};
    int code = put_all(p, prompt, cells, out, err);
    if (code < 0) {
        free(out->tokens.id);
        *out = (Hpsv3Ids){0};
    }
    return code;
}
