/* Report: the page, section by section, from a run folder. After training; nothing is computed anew. */
#include "report/report.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/yaml.h"
#include "report/card.h"
#include "report/curve.h"
#include "report/html.h"
#include "report/records.h"
#include "report/score_table.h"
#include "report/stop_note.h"

typedef struct Report {
    const char *run;
    const Log *log;
    FILE *out;
    Records updates, evaluations;
    StopNote stop;
} Report;

static const char *run_path(const Report *r, const char *name, char path[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s/%s", r->run, name);
    return path;
}

static void tile(FILE *out, const char *value, const char *label) {
    fprintf(out, "<div class=tile><b>%s</b><span class=soft>", value);
    html_text(out, label);
    fprintf(out, "</span></div>\n");
}

static void write_tiles(const Report *r) {
    char text[96];
    const Records *u = &r->updates, *e = &r->evaluations;
    size_t tenth = u->rows / 10 + 1;
    fprintf(r->out, "<div class=tiles>\n");
    snprintf(text, sizeof text, "%.0f", records_last(u, "step"));
    tile(r->out, text, "updates");
    snprintf(text, sizeof text, "%.3f &rarr; %.3f", records_mean(u, "reward", tenth, 0),
             records_mean(u, "reward", tenth, 1));
    if (isfinite(records_last(u, "reward"))) tile(r->out, text, "training reward, first and last tenth");
    if (e->rows) {
        snprintf(text, sizeof text, "%.3f &rarr; %.3f", records_last(e, "reward/base"),
                 records_last(e, "reward/tuned"));
        tile(r->out, text,
             r->stop.rules[0] ? "reward at fixed prompts, base and tuned, when it was stopped"
                              : "reward at fixed prompts, base and tuned");
    }
    snprintf(text, sizeof text, "%.3f &rarr; %.3f", records_mean(u, "diversity", tenth, 0),
             records_mean(u, "diversity", tenth, 1));
    tile(r->out, text, "diversity of candidates, first and last tenth");
    if (records_column(u, "decoder_agreement/kendall_tau")) {
        snprintf(text, sizeof text, "%.3f", records_mean(u, "decoder_agreement/kendall_tau", u->rows, 0));
        tile(r->out, text, "Kendall's tau of the small reward decoder's ranking with the full one's");
        snprintf(text, sizeof text, "%.0f%%", 100 * records_mean(u, "decoder_agreement/same_choice", u->rows, 0));
        tile(r->out, text, "of the chosen candidates are those of the full decoder");
    }
    snprintf(text, sizeof text, "%.2f s", records_mean(u, "time/seconds", u->rows, 0));
    tile(r->out, text, "per update");
    fprintf(r->out, "</div>\n");
}

/* The newest eval-<step>.png: steps have six digits or more, so a longer name is later. */
static bool newest_grid(const Report *r, char name[NAME_MAX + 1]) {
    name[0] = 0;
    DIR *folder = opendir(r->run);
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        size_t n = strlen(entry->d_name);
        bool grid = n > 9 && strncmp(entry->d_name, "eval-", 5) == 0 && strcmp(entry->d_name + n - 4, ".png") == 0;
        size_t best = strlen(name);
        if (grid && (n > best || (n == best && strcmp(entry->d_name, name) > 0))) strcpy(name, entry->d_name);
    }
    if (folder) closedir(folder);
    return name[0] != 0;
}

/* What a rule of --stop-when kept, which is not what stands last. */
static int write_kept(const Report *r, Error *err) {
    char path[PATH_MAX], name[32], caption[160];
    snprintf(name, sizeof name, "eval-%06ld.png", r->stop.kept);
    snprintf(caption, sizeof caption, "Base on the left, step %ld, which is final/, on the right (%s)", r->stop.kept,
             name);
    return html_picture(r->out, run_path(r, name, path), caption, err);
}

static int write_pictures(const Report *r, Error *err) {
    char path[PATH_MAX], name[NAME_MAX + 1], caption[64 + NAME_MAX];
    const bool stopped = r->stop.rules[0] && r->stop.kept >= 0;
    if (!newest_grid(r, name)) return 0;
    fprintf(r->out, "<h2>Same prompts, same noises</h2>\n");
    if (stopped) {
        TRY(write_kept(r, err));
        fprintf(r->out, "<details><summary>where the rule was broken, at step %ld</summary>\n", r->stop.step);
    }
    snprintf(caption, sizeof caption, "Base on the left, tuned on the right (%s)", name);
    TRY(html_picture(r->out, run_path(r, name, path), caption, err));
    if (stopped) fprintf(r->out, "</details>\n");
    return 0;
}

/* Every column whose name begins with `prefix` (or is it) as one chart. */
static void chart(const Report *r, const Records *records, const char *title, const char *prefix, bool smooth) {
    Series series[RECORDS_COLUMNS];
    const double *step = records_column(records, "step");
    size_t length = strlen(prefix);
    int n = 0;
    for (int i = 0; step && i < records->columns; i++) {
        const char *name = records->column[i].name;
        bool exact = strcmp(name, prefix) == 0, below = strncmp(name, prefix, length) == 0 && name[length] == '/';
        if (exact || below)
            series[n++] =
                (Series){exact ? name : name + length + 1, step, records->column[i].value, records->rows, smooth};
    }
    curve_draw(r->out, title, series, n);
}

static void write_curves(const Report *r) {
    fprintf(r->out, "<h2>Curves</h2>\n<div class=curves>\n");
    chart(r, &r->evaluations, "Reward at fixed prompts and noises", "reward", false);
    chart(r, &r->evaluations, "Held-out rewards, never trained on", "heldout", false);
    chart(r, &r->updates, "Training rewards", "rewards", true);
    chart(r, &r->updates, "Best candidate", "reward_best", true);
    chart(r, &r->updates, "Diversity of candidates (mean pairwise latent distance)", "diversity", true);
    chart(r, &r->updates, "Reward decoder beside the full one: agreement of ranking and choice", "decoder_agreement",
          false);
    chart(r, &r->updates, "Gradient norm before clipping", "grad_norm", true);
    chart(r, &r->updates, "Feature scale", "feature_scale", true);
    chart(r, &r->updates, "Learning rate", "lr", false);
    chart(r, &r->updates, "Seconds per update", "time/seconds", true);
    fprintf(r->out, "</div>\n");
}

static void write_gauges(const Report *r) {
    const Records *e = &r->evaluations;
    if (!records_column(e, "gauges/distance/latent")) return;
    fprintf(r->out,
            "<h2>Is the reward being gamed?</h2>\n<p class=soft>Gauges of the evaluations, tuned beside base at "
            "the same prompts and noises: a generator that cheats its reward loses diversity, saturates, "
            "grows or loses fine detail, or leaves its base far behind.</p>\n<div class=curves>\n");
    chart(r, e, "Tuned over base (1: as the base)", "gauges/ratio", false);
    chart(r, e, "Distance to the base", "gauges/distance", false);
    chart(r, e, "Diversity: mean distance of one prompt's latents", "gauges/diversity", false);
    chart(r, e, "Diversity in features, mean over keys", "gauges/feature_diversity", false);
    chart(r, e, "Saturation of the pictures (0 to 1)", "gauges/saturation", false);
    chart(r, e, "High-frequency energy of the luminance", "gauges/high_frequency", false);
    fprintf(r->out, "</div>\n");
}

static int option_row(void *user, const char *key, const char *value, int line, Error *err) {
    (void)line, (void)err;
    FILE *out = user;
    fprintf(out, "<tr><td>");
    html_text(out, key);
    fprintf(out, "</td><td style=\"text-align:left\">");
    html_text(out, value);
    fprintf(out, "</td></tr>\n");
    return 0;
}

static int write_options(const Report *r, Error *err) {
    char path[PATH_MAX];
    if (!file_exists(run_path(r, "config.yaml", path))) return 0;
    fprintf(r->out,
            "<h2>Options</h2>\n<details><summary>every option as resolved</summary><div class=scroll><table>\n");
    TRY(yaml_read(path, option_row, r->out, err));
    fprintf(r->out, "</table></div></details>\n");
    return 0;
}

static int write_page(Report *r, Error *err) {
    char path[PATH_MAX], title[PATH_MAX + 16];
    const char *name = strrchr(r->run, '/');
    snprintf(title, sizeof title, "drpo run %s", name && name[1] ? name + 1 : r->run);
    html_open(r->out, title);
    fprintf(r->out, "<h1>");
    html_text(r->out, title);
    fprintf(r->out,
            "</h1>\n<p class=soft>Drifting Preference Optimization of a one-step text-to-image generator.</p>\n");
    stop_note_write(r->out, &r->stop);
    write_tiles(r);
    TRY(write_pictures(r, err));
    TRY(score_table_write(r->out, run_path(r, "eval/table.json", path), err));
    write_gauges(r);
    write_curves(r);
    TRY(card_write(r->out, run_path(r, "final/README.md", path), err));
    TRY(write_options(r, err));
    html_close(r->out);
    return 0;
}

static int read_records(Report *r, Error *err) {
    char path[PATH_MAX];
    if (!file_exists(run_path(r, "metrics.jsonl", path)))
        return fail(err, DRPO_E_INPUT, "%s: not a run folder, there is no metrics.jsonl", r->run);
    TRY(records_read(path, &r->updates, err));
    if (r->updates.rows == 0) log_warn(r->log, "%s has no updates yet", path);
    TRY(stop_note_read(run_path(r, "eval.jsonl", path), &r->stop, err));
    if (records_last(&r->updates, "step") > r->stop.step) r->stop = (StopNote){0}; /* it went on without the rule */
    return records_read(path, &r->evaluations, err);
}

int report_write(const char *run, const char *out, const Log *log, Error *err) {
    Report r = {.run = run, .log = log};
    char *text = NULL;
    size_t size = 0;
    int code = read_records(&r, err);
    if (code >= 0 && !(r.out = open_memstream(&text, &size))) code = fail(err, DRPO_E_MEMORY, "report: out of memory");
    if (code >= 0) code = write_page(&r, err);
    if (r.out && fclose(r.out) != 0 && code >= 0) code = fail(err, DRPO_E_MEMORY, "report: out of memory");
    if (code >= 0) code = file_write_atomic(out, text, size, err);
    free(text);
    records_free(&r.updates);
    records_free(&r.evaluations);
    return code;
}
