/* Model card: RUN/final/README.md: how an adapter was made, in the form that model hubs read. */
#ifndef DRPO_TRAIN_MODEL_CARD_H
#define DRPO_TRAIN_MODEL_CARD_H

#include "base/arena.h"
#include "base/error.h"

typedef struct ModelCard {
    const char *run, *base_model, *base_sha256, *config_sha256, *prompts, *prompts_sha256, *command, *rewards;
    const char *weights; /* which of the run's weights these are; NULL: there are no others */
    long steps;
    int rank;
    double alpha;
} ModelCard;

/* Reads metrics.jsonl and eval.jsonl of the run for the curve; `folder` holds the adapter already. */
int model_card_write(const ModelCard *card, const char *folder, Error *err);

/* The card of an exported adapter: that of the folder `from`, but for how `file` in `folder` is used (NULL: the folder
 * itself, a PEFT adapter). A README.md that is there already stays, and *stays says so; where `from` has no card there
 * will be none. */
typedef struct CardCopy {
    const char *from, *folder, *file;
    bool kohya;
} CardCopy;
int model_card_copy(const CardCopy *c, Arena *a, bool *stays, Error *err);

#endif
