/* Run folder: one training run on disk.
 *
 *   config.yaml  metrics.jsonl  candidates.jsonl  eval.jsonl  eval-<step>.png  events.out.tfevents.* checkpoint-<step>/
 * final/ */
#ifndef DRPO_TRAIN_RUN_FOLDER_H
#define DRPO_TRAIN_RUN_FOLDER_H

#include "base/log.h"
#include "train/config.h"

typedef struct RunFolder {
    char *path;           /* in the arena given to run_folder_find */
    char *checkpoint;     /* to resume from, NULL: start at step 0 */
    long step;            /* of that checkpoint */
    bool created, filled; /* by run_folder_begin: the folder, or what is in one that was empty */
    int lock;             /* -1: not yet held */
} RunFolder;

/* Decides the folder and the checkpoint by --out, --resume; writes nothing. A resumed run's config.yaml becomes the
 * lowest layer of `c`; an option that would change the course of the run is refused. */
int run_folder_find(Config *c, Arena *a, const Log *log, RunFolder *out, Error *err);
/* Refuses a folder that another process trains in, and keeps others out of it; nothing where there is none yet. */
int run_folder_lock(RunFolder *r, Error *err);
void run_folder_close(RunFolder *r);
/* Makes, locks or clears the folder: removes an overwritten run, half-written checkpoints, and checkpoints later than
 * the one resumed from. */
int run_folder_begin(RunFolder *r, const Config *c, const Log *log, Error *err);
/* Takes back what run_folder_begin and later writes left, after a failure of the first update. */
void run_folder_undo(const RunFolder *r);
/* Newest complete checkpoint of a run: its step, or -1; *path in the arena. */
long run_newest_checkpoint(const char *run, Arena *a, char **path);
/* Removes the oldest checkpoints so that `keep` remain (0: all). */
int run_prune(const char *run, int keep, Error *err);

#endif
