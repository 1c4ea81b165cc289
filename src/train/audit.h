/* Audit: every candidate's scores and what was chosen from them, a line per prompt of an update in candidates.jsonl.
 *
 *     {"step": 12, "prompt": 17, "key": [42, 11, 3], "scores": {"scene": [0.5, ...]}, "positives": [...],
 *      "negatives": [...]}
 *
 * Candidate i has scores[i] and, with --rng philox, the noise of key (seed, update from 0, slot, i). "failed": no
 * reward could score the prompt; "skipped": its scores choose nobody. */
#ifndef DRPO_TRAIN_AUDIT_H
#define DRPO_TRAIN_AUDIT_H

#include "format/jsonl.h"
#include "step/reward/reward.h"

typedef struct AuditKey {
    long update; /* from 0 */
    int slot;
    size_t prompt; /* in the prompt file */
    uint64_t seed;
} AuditKey;

int audit_write(JsonlWriter *w, const AuditKey *key, const ScoredPrompt *p, const RewardSet *rewards, Error *err);

#endif
