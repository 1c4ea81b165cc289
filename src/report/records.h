/* Records: the columns of a run's metrics.jsonl and eval.jsonl, as curves want them. */
#ifndef DRPO_REPORT_RECORDS_H
#define DRPO_REPORT_RECORDS_H

#include <stddef.h>

#include "base/error.h"

enum { RECORDS_COLUMNS = 64 };

typedef struct Column {
    char name[96]; /* "reward", "rewards/scene", "reward/tuned", "time/seconds": nested keys joined by '/' */
    double *value; /* [rows], NaN where a line lacks it */
} Column;

typedef struct Records {
    Column column[RECORDS_COLUMNS];
    int columns;
    size_t rows, room;
} Records;

/* Every number of every line; a file that does not exist has no rows. */
int records_read(const char *path, Records *out, Error *err);
void records_free(Records *r);
const double *records_column(const Records *r, const char *name); /* NULL: no such column */
double records_last(const Records *r, const char *name);          /* the last finite value, NaN if none */
/* Mean of the first or last `n` finite values. */
double records_mean(const Records *r, const char *name, size_t n, int from_end);

#endif
