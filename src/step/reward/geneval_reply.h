/* What a detector answers: verdicts of its own, or the objects it found in every picture (docs/rewards.md).
 *
 *     {"scores": [1.0, 0.0, ...]}
 *     {"detections": [[{"class": "dog", "score": 0.97, "box": [x1, y1, x2, y2], "color": "red",
 *                       "mask": {"size": [H, W], "counts": [...]}}, ...], ...]} */
#ifndef DRPO_STEP_REWARD_GENEVAL_REPLY_H
#define DRPO_STEP_REWARD_GENEVAL_REPLY_H

#include "base/arena.h"
#include "step/reward/geneval.h"
#include "step/reward/message.h"

typedef struct GenevalFound {
    GenevalObject *object;
    int count;
} GenevalFound;

typedef struct GenevalReply {
    int pictures, height, width;
    float *scores;       /* [pictures], its own verdicts */
    GenevalFound *found; /* [pictures], when detected */
    bool detected;
    Arena *arena; /* of what it holds */
} GenevalReply;

/* For `pictures`; the arena is the caller's. */
int geneval_reply_new(const Pictures *pictures, Arena *a, GenevalReply *out, Error *err);
/* A ReplyReader's read(); `user` is a GenevalReply. */
ReplyKind geneval_reply_read(void *user, const char *line, char *what, size_t size);

#endif
