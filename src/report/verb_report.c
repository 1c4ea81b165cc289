/* The verb `report`. See verb_report.h. */
#include "report/verb_report.h"

#include "base/file.h"
#include "report/report.h"

int verb_report(const Job *job, Error *err) {
    const Config *c = job->config;
    TRY(config_check(c, err));
    Arena *a = arena_new();
    const char *run = config_item(c, OPT_REPORTED, 0), *out = config_text(c, OPT_REPORT_OUT);
    if (a && out[0] == 0) out = path_join(a, run, "report.html");
    int code = a && out ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0 && !dir_exists(run)) code = fail(err, DRPO_E_INPUT, "%s: no such run folder", run);
    if (code == 0) code = report_write(run, out, &job->log, err);
    if (code == 0) job_result(job, "%s", out);
    arena_free(a);
    return code;
}
