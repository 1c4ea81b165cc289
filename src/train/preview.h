/* Preview: training's own evaluation: fixed prompts and noises, base beside tuned, as a grid, a line of scores and
 * gauges, and TensorBoard events.
 *
 * The base is drawn and scored once, in the first round. */
#ifndef DRPO_TRAIN_PREVIEW_H
#define DRPO_TRAIN_PREVIEW_H

#include "train/metrics.h"
#include "train/stop_rules.h"
#include "train/training.h"

typedef struct Preview Preview;

enum { PREVIEW_SUMMARY = 512 };

/* The training outlives the preview. */
int preview_open(const Job *job, Training *t, Preview **out, Error *err);
void preview_close(Preview *p);
const PromptList *preview_prompts(const Preview *p);
size_t preview_records(const Preview *p); /* bytes that are allocated and not touched before the first evaluation */
/* Writes RUN/eval-<step>.png and a line of eval.jsonl, with the rules' verdict when one did not hold. *keep: this is
 * the evaluation whose adapter they keep. `summary` receives one line for people. */
int preview_run(Preview *p, const char *run, long step, Metrics *m, StopRules *rules, bool *keep,
                char summary[PREVIEW_SUMMARY], Error *err);

#endif
