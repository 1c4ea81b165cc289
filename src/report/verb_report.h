/* The verb `report`: RUN -> one HTML page (report.h). */
#ifndef DRPO_REPORT_VERB_REPORT_H
#define DRPO_REPORT_VERB_REPORT_H

#include "train/job.h"

int verb_report(const Job *job, Error *err);

#endif
