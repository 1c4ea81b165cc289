/* Page: the findings of a comparison as one self-contained HTML file. See output.h. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "compare/intervals.h"
#include "compare/output.h"
#include "report/curve.h"
#include "report/html.h"
#include "report/records.h"

static void cell(FILE *out, const EvalValue *v, bool difference) {
    const char *way = !difference || (v->low <= 0 && v->high >= 0) ? "" : v->low > 0 ? " class=up" : " class=down";
    fprintf(out,
            difference ? "<td%s>%+.3f <span class=soft>[%+.3f, %+.3f]</span></td>"
                       : "<td%s>%.3f <span class=soft>[%.3f, %.3f]</span></td>",
            way, v->value, v->low, v->high);
}

static void row_begin(FILE *out, const char *name) {
    fprintf(out, "<tr><td>");
    html_text(out, name);
    fprintf(out, "</td>");
}

/* ---- the metric that counts ---- */

static void write_rank(FILE *out, const Findings *f, const ScoreSummary *s, bool timed) {
    const Comparison *c = f->c;
    const ScoreMetric *m = score_metric(s, f->metric);
    fprintf(out, "<div class=scroll><table><tr><th></th><th>updates</th><th>calls</th><th>seconds</th><th>");
    html_text(out, m->name);
    fprintf(out, "</th><th>over base</th><th>");
    html_text(out, c->variant[0].name);
    fprintf(out, " minus it</th></tr>\n<tr class=total><td>base</td><td></td><td></td><td></td>");
    cell(out, &m->base, false);
    fprintf(out, "<td></td><td></td></tr>\n");
    for (int v = 0; v < c->variants; v++) {
        double share = timed ? mean_updates(c, v, true) / mean_updates(c, v, false) : 1;
        row_begin(out, c->variant[v].name);
        fprintf(out, "<td>%.4g</td><td>%.0f</td><td>%.4g</td>", mean_updates(c, v, timed), mean_calls(c, v) * share,
                timed ? c->run[v * c->seeds].timed_seconds : mean_seconds(c, v));
        cell(out, &m->tuned[v], false);
        cell(out, &m->gain[v], true);
        if (v)
            cell(out, &m->lead[v], true);
        else
            fprintf(out, "<td></td>");
        fprintf(out, "</tr>\n");
    }
    fprintf(out, "</table></div>\n");
}

static void draw_rank(FILE *out, const Findings *f, const ScoreSummary *s, const char *title) {
    const Comparison *c = f->c;
    const ScoreMetric *m = score_metric(s, f->metric);
    IntervalRow row[MAX_VARIANTS];
    for (int v = 0; v < c->variants; v++)
        row[v] = (IntervalRow){c->variant[v].name, m->tuned[v].value,      m->tuned[v].low,
                               m->tuned[v].high,   m->each + v * c->seeds, c->seeds > 1 ? c->seeds : 0};
    intervals_draw(out, title, row, c->variants, m->base.value, "base");
}

/* ---- every metric ---- */

static void write_all(FILE *out, const Findings *f) {
    const Comparison *c = f->c;
    fprintf(out,
            "<h2>Every metric, after all updates</h2>\n<p class=soft>Gains over the base in brackets; colour where "
            "their interval leaves out 0.</p>\n<div class=scroll><table><tr><th></th><th>base</th>");
    for (int v = 0; v < c->variants; v++) {
        fprintf(out, "<th>");
        html_text(out, c->variant[v].name);
        fprintf(out, "</th>");
    }
    fprintf(out, "</tr>\n");
    for (int i = 0; i < f->full.metrics; i++) {
        const ScoreMetric *m = &f->full.metric[i];
        row_begin(out, m->name);
        fprintf(out, "<td>%.3f</td>", m->base.value);
        for (int v = 0; v < c->variants; v++) {
            const EvalValue *g = &m->gain[v];
            fprintf(out, "<td>%.3f <span class=%s>(%+.3f)</span></td>", m->tuned[v].value,
                    g->low > 0    ? "up"
                    : g->high < 0 ? "down"
                                  : "soft",
                    g->value);
        }
        fprintf(out, "</tr>\n");
    }
    fprintf(out, "</table></div>\n");
}

/* ---- curves of evaluations during training, mean over seeds ---- */

typedef struct Line {
    double *updates, *seconds, *reward;
    size_t n;
} Line;

/* Adds one run; runs of a variant are evaluated at the same updates. */
static int add_run(const Run *r, Line *l, Arena *a, bool first, Error *err) {
    char path[PATH_MAX];
    Records evals, metrics;
    snprintf(path, sizeof path, "%s/eval.jsonl", r->path);
    TRY(records_read(path, &evals, err));
    snprintf(path, sizeof path, "%s/metrics.jsonl", r->path);
    int code = records_read(path, &metrics, err);
    if (code < 0) {
        records_free(&evals);
        return code;
    }
    const double *step = records_column(&evals, "step"), *reward = records_column(&evals, "reward/tuned");
    const double *each = records_column(&metrics, "time/seconds");
    if (first) {
        *l = (Line){.n = step && reward && each ? evals.rows : 0};
        l->updates = arena_alloc(a, 3 * (l->n + 1) * sizeof *l->updates);
        if (!l->updates) code = fail(err, DRPO_E_MEMORY, "out of memory");
        l->seconds = l->updates + l->n;
        l->reward = l->seconds + l->n;
    }
    if (code == 0 && l->n > evals.rows) l->n = evals.rows;
    for (size_t i = 0; i < l->n && code == 0 && step && reward && each; i++) {
        double seconds = 0;
        for (size_t k = 0; k < metrics.rows && (double)k < step[i]; k++) seconds += each[k];
        l->updates[i] = step[i];
        l->seconds[i] += seconds;
        l->reward[i] += reward[i];
    }
    records_free(&evals);
    records_free(&metrics);
    return code;
}

static int write_curves(FILE *out, const Findings *f, Error *err) {
    const Comparison *c = f->c;
    Series by_update[MAX_VARIANTS], by_second[MAX_VARIANTS];
    for (int v = 0; v < c->variants; v++) {
        Line l = {0};
        for (int s = 0; s < c->seeds; s++) TRY(add_run(&c->run[v * c->seeds + s], &l, c->arena, s == 0, err));
        for (size_t i = 0; i < l.n; i++) l.seconds[i] /= c->seeds, l.reward[i] /= c->seeds;
        by_update[v] = (Series){c->variant[v].name, l.updates, l.reward, l.n, false};
        by_second[v] = (Series){c->variant[v].name, l.seconds, l.reward, l.n, false};
    }
    int drawn = c->variants < CURVE_SERIES ? c->variants : CURVE_SERIES;
    fprintf(out,
            "<h2>During training</h2>\n<p class=soft>Mean training reward of evaluations at fixed prompts and "
            "noises, over training seeds.%s</p>\n<div class=curves>\n",
            drawn < c->variants ? " The first six variants." : "");
    curve_draw(out, "Reward by updates", by_update, drawn);
    curve_draw(out, "Reward by seconds of updates", by_second, drawn);
    fprintf(out, "</div>\n");
    return 0;
}

/* ---- how it was made ---- */

static void write_tuning(FILE *out, const Comparison *c) {
    const Tuning *t = &c->tuning;
    if (!t->key) return;
    fprintf(out, "<h2>Tuning</h2>\n<p class=soft>One training run per variant and value, on a seed of its own, judged "
                 "by training prompts with noises used for nothing else.</p>\n<div class=scroll><table><tr><th>");
    html_text(out, t->key);
    fprintf(out, "</th>");
    for (int i = 0; i < t->values; i++) {
        fprintf(out, "<th>");
        html_text(out, t->trial[i].value);
        fprintf(out, "</th>");
    }
    fprintf(out, "</tr>\n");
    for (int v = 0; v < c->variants; v++) {
        row_begin(out, c->variant[v].name);
        for (int i = 0; i < t->values; i++) {
            double score = t->trial[v * t->values + i].score;
            const char *best = i == t->best[v] ? " class=up" : "";
            if (isnan(score))
                fprintf(out, "<td class=soft>diverged</td>");
            else
                fprintf(out, "<td%s>%.3f</td>", best, score);
        }
        fprintf(out, "</tr>\n");
    }
    fprintf(out, "</table></div>\n");
}

static void write_runs(FILE *out, const Comparison *c) {
    const char *command = config_command(c->job->config, c->arena);
    fprintf(out, "<h2>Command</h2>\n<pre>");
    html_text(out, command ? command : "");
    fprintf(out, "</pre>\n<details><summary>runs</summary><div class=scroll><table><tr><th></th><th>updates</th>"
                 "<th>generator calls</th><th>seconds</th></tr>\n");
    for (int i = 0; i < c->variants * c->seeds; i++) {
        const Run *r = &c->run[i];
        row_begin(out, r->path);
        fprintf(out, "<td>%ld</td><td>%.0f</td><td>%.1f</td></tr>\n", r->updates, r->calls, r->seconds);
    }
    fprintf(out, "</table></div></details>\n");
}

static void write_head(FILE *out, const Findings *f) {
    const Comparison *c = f->c;
    const char *title = config_verb(c->job->config) == DRPO_SWEEP ? "drpo sweep" : "drpo compare";
    html_open(out, title);
    fprintf(out,
            "<h1>%s</h1>\n<p class=soft>%d variants from the same base, prompts and noises, %d training seed%s. "
            "Judged on %d held-out prompts, %.0f pictures a run. Brackets: 95 %% bootstrap intervals over "
            "prompts%s; differences are paired.</p>\n",
            title, c->variants, c->seeds, c->seeds == 1 ? "" : "s", f->full.prompts, f->full.images,
            c->seeds > 1 ? " and training seeds" : "");
}

static int write_page(FILE *out, const Findings *f, Error *err) {
    const char *calls = compare_calls_note(f->c);
    write_head(out, f);
    fprintf(out, "<h2>After all updates</h2>\n<p class=soft>%s</p>\n", calls ? calls : "Equal generator calls.");
    write_rank(out, f, &f->full, false);
    if (f->has_timed) {
        fprintf(out, "<h2>At the same time</h2>\n<p class=soft>%s</p>\n", compare_time_note(f->c));
        write_rank(out, f, &f->timed, true);
    }
    fprintf(out, "<h2>Intervals</h2>\n<div class=curves>\n");
    draw_rank(out, f, &f->full, "After all updates");
    if (f->has_timed) draw_rank(out, f, &f->timed, "At the same time");
    fprintf(out, "</div>\n");
    TRY(write_curves(out, f, err));
    write_all(out, f);
    write_tuning(out, f->c);
    write_runs(out, f->c);
    html_close(out);
    return 0;
}

int findings_page(const Findings *f, const char *path, Error *err) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    int code = write_page(out, f, err);
    if (fclose(out) != 0 && code == 0) code = fail(err, DRPO_E_MEMORY, "%s: out of memory", path);
    if (code == 0) code = file_write_atomic(path, text, size, err);
    free(text);
    return code;
}
