/* Preview: training's own evaluation: fixed prompts and noises, base beside tuned, as a grid, a line of scores and
 * TensorBoard events.
 *
 * The base is drawn and scored once, in the first round. */
#ifndef DRPO_TRAIN_PREVIEW_H
#define DRPO_TRAIN_PREVIEW_H

#include "train/metrics.h"
#include "train/session.h"

typedef struct Preview Preview;

/* Everything borrowed outlives the preview. */
int preview_open(const Job *job, Session *s, Adapter *a, const PromptList *training, RewardSet *rewards, Preview **out,
                 Error *err);
void preview_close(Preview *p);
/* Writes RUN/eval-<step>.png and a line of eval.jsonl. `summary` (at least 128 bytes) receives one line for people. */
int preview_run(Preview *p, const char *run, long step, Metrics *m, char summary[128], Error *err);

#endif
