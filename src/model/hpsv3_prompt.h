/* The text that HPSv3 reads: a chat in Qwen2-VL's layout around a picture and the authors' questions about it. */
#ifndef DRPO_MODEL_HPSV3_PROMPT_H
#define DRPO_MODEL_HPSV3_PROMPT_H

#include "model/tokenizer_qwen.h"

typedef struct Hpsv3Prompt Hpsv3Prompt;

/* Where the picture's states go among the ids, and where the score is read: at the last of them. */
typedef struct Hpsv3Ids {
    TokenIds tokens;
    int picture_at;
} Hpsv3Ids;

/* `folder` has the tokenizer; `questions` is the file with one "{text_prompt}" and one "<|Reward|>". */
int hpsv3_prompt_open(const char *folder, const char *questions, Hpsv3Prompt **out, Error *err);
void hpsv3_prompt_free(Hpsv3Prompt *p);
int hpsv3_prompt_vocab(const Hpsv3Prompt *p); /* largest id + 1 */
/* Ids up to the reward token, which nothing behind can change; the picture has `cells` places. Freed with
 * free(out->tokens.id). */
int hpsv3_prompt_ids(const Hpsv3Prompt *p, const char *prompt, int cells, Hpsv3Ids *out, Error *err);

#endif
