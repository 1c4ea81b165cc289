/* Folders of a pretraining, each made once, whole or not at all, so that the same command goes on where it was stopped.
 */
#ifndef DRPO_PRETRAIN_FOLDER_H
#define DRPO_PRETRAIN_FOLDER_H

#include "train/job.h"

typedef struct Pretraining {
    const Job *job;
    Arena *arena;
    const char *base; /* the embedded generator, whose shape the new one has */
    const char *out, *captions;
    int lock; /* of `out`, -1: none */
} Pretraining;

typedef int FolderFill(Pretraining *p, const char *folder, Error *err);

/* OUT/name; NULL: out of memory. */
const char *folder_path(const Pretraining *p, const char *name);
/* Makes OUT/name: `fill` writes into a folder beside it. One that is there is kept, or with `anew` replaced. */
int folder_make(Pretraining *p, const char *name, bool anew, FolderFill *fill, Error *err);
/* FROM/name -> TO/name; folders in between are made. */
int folder_copy(Pretraining *p, const char *from, const char *to, const char *name, Error *err);
int folder_copy_all(Pretraining *p, const char *from, const char *to, const char *const *names, int n, Error *err);

#endif
