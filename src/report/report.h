/* Report: one self-contained HTML page about a run: figures, curves, base beside tuned, the score table, options,
 * hashes, command. */
#ifndef DRPO_REPORT_REPORT_H
#define DRPO_REPORT_REPORT_H

#include "base/error.h"
#include "base/log.h"

/* Reads what the run folder holds (metrics.jsonl, eval.jsonl, eval-<step>.png, eval/, config.yaml, final/) and writes
 * `out` atomically. What is missing is left out with a warning; a folder without metrics.jsonl is DRPO_E_INPUT. */
int report_write(const char *run, const char *out, const Log *log, Error *err);

#endif
