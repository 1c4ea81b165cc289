/* HPSv3: how much people would like a picture for its prompt, by Qwen2-VL-7B with a head that gives mu and sigma. */
#ifndef DRPO_MODEL_HPSV3_H
#define DRPO_MODEL_HPSV3_H

#include "engine/backend.h"
#include "model/qwen2_vl.h"

typedef struct Hpsv3 Hpsv3;

/* `folder`: HPSv3.safetensors (or model.safetensors, or an index), config.json and the tokenizer of
 * Qwen2-VL-7B-Instruct. `questions`: the authors' user text; NULL: FOLDER/user_text_template.txt. 16-bit weights stay
 * mapped as they are. Runs on `backend`, which outlives it. */
int hpsv3_open(const char *folder, const char *questions, Backend *backend, Hpsv3 **out, Error *err);
void hpsv3_free(Hpsv3 *m);
/* rgb [height,width,3]. score[0]: mu, the score; score[1]: the logarithm of sigma. */
int hpsv3_score(Hpsv3 *m, const char *prompt, const uint8_t *rgb, int width, int height, float score[2], Error *err);

/* Plans for a text and a size before any is scored; nothing is filled where the backend defers. */
int hpsv3_plan(Hpsv3 *m, const char *prompt, int width, int height, Error *err);
/* What filling will take. *mapped: bytes of weights read in the files. */
size_t hpsv3_pending(const Hpsv3 *m, size_t *mapped);

/* Both networks at their smallest, appended to the graph of `b`: asks for every weight once. For checks of files. */
void hpsv3_build_smallest(Build *b, const Qwen2VlConfig *c);
/* state [1,1,width] -> [1,1,2] */
Value hpsv3_head_build(Build *b, Value state);

#endif
