/* Output: the findings of a comparison as lines for people and as JSON. See output.h. */
#include "compare/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *compare_metric_name(const Comparison *c, bool judged) {
    const char *wanted = config_text(c->job->config, OPT_RANK_BY);
    if (wanted[0]) return wanted;
    if (judged) return "overall";
    const char *spec = config_item(c->job->config, OPT_REWARD, 0);
    const char *name = arena_printf(c->arena, "%.*s", (int)strcspn(spec, ":?@"), spec);
    return name ? name : "";
}

double mean_calls(const Comparison *c, int variant) {
    double sum = 0;
    for (int s = 0; s < c->seeds; s++) sum += c->run[variant * c->seeds + s].calls;
    return sum / c->seeds;
}

double mean_seconds(const Comparison *c, int variant) {
    double sum = 0;
    for (int s = 0; s < c->seeds; s++) sum += c->run[variant * c->seeds + s].seconds;
    return sum / c->seeds;
}

double mean_updates(const Comparison *c, int variant, bool timed) {
    double sum = 0;
    for (int s = 0; s < c->seeds; s++) {
        const Run *r = &c->run[variant * c->seeds + s];
        sum += (double)(timed ? r->timed_updates : r->updates);
    }
    return sum / c->seeds;
}

const char *compare_calls_note(const Comparison *c) {
    double least = INFINITY, most = 0;
    for (int v = 0; v < c->variants; v++) {
        least = fmin(least, mean_calls(c, v));
        most = fmax(most, mean_calls(c, v));
    }
    if (most == least) return NULL;
    return arena_printf(c->arena, "generator calls differ: %.0f to %.0f a run", least, most);
}

const char *compare_time_note(const Comparison *c) {
    static const char *const notes[] = {
        [TIMED_CHECKPOINT] =
            "At the same time: the last checkpoint of every run within the seconds of updates that the "
            "fastest variant took; learning rates had not fallen to their end by then.",
        [TIMED_RETRAIN] = "Trained anew, with as many updates as fit into the seconds of updates "
                          "that the fastest variant took; schedules end there.",
        [TIMED_OFF] = ""};
    return notes[config_choice(c->job->config, OPT_SAME_TIME)];
}

/* ---- text ---- */

static const char *mark(const EvalValue *v) { return v->low > 0 || v->high < 0 ? " !" : "  "; }

static int name_width(const Comparison *c) {
    int width = 4;
    for (int v = 0; v < c->variants; v++)
        width = (int)strlen(c->variant[v].name) > width ? (int)strlen(c->variant[v].name) : width;
    return width;
}

static void print_rank(FILE *out, const Findings *f, const ScoreSummary *s, bool timed) {
    const Comparison *c = f->c;
    const ScoreMetric *m = score_metric(s, f->metric);
    int width = name_width(c);
    fprintf(out,
            "%-*s  updates    calls  seconds  %8.8s  95 %% interval   over base  95 %% interval      %.12s minus it\n",
            width, "", m->name, c->variant[0].name);
    fprintf(out, "%-*s  %25s  %8.3f  %.3f .. %.3f\n", width, "base", "", m->base.value, m->base.low, m->base.high);
    for (int v = 0; v < c->variants; v++) {
        const EvalValue *own = &m->tuned[v], *gain = &m->gain[v], *lead = &m->lead[v];
        double share = timed ? mean_updates(c, v, true) / mean_updates(c, v, false) : 1;
        double seconds = timed ? c->run[v * c->seeds].timed_seconds : mean_seconds(c, v);
        fprintf(out, "%-*s  %7.4g  %7.0f  %7.4g  %8.3f  %.3f .. %.3f  %+10.3f  %+.3f .. %+.3f%s", width,
                c->variant[v].name, mean_updates(c, v, timed), mean_calls(c, v) * share, seconds, own->value, own->low,
                own->high, gain->value, gain->low, gain->high, mark(gain));
        if (v > 0) fprintf(out, "  %+.3f  %+.3f .. %+.3f%s", lead->value, lead->low, lead->high, mark(lead));
        fputc('\n', out);
    }
}

static void print_all(FILE *out, const Findings *f) {
    const Comparison *c = f->c;
    int width = 8;
    for (int i = 0; i < f->full.metrics; i++)
        width = (int)strlen(f->full.metric[i].name) > width ? (int)strlen(f->full.metric[i].name) : width;
    fprintf(out, "%-*s  %8s", width, "", "base");
    for (int v = 0; v < c->variants; v++) fprintf(out, "  %8s", c->variant[v].name);
    fputc('\n', out);
    for (int i = 0; i < f->full.metrics; i++) {
        const ScoreMetric *m = &f->full.metric[i];
        fprintf(out, "%-*s  %8.3f", width, m->name, m->base.value);
        for (int v = 0; v < c->variants; v++) {
            int length = (int)strlen(c->variant[v].name);
            fprintf(out, "  %*.3f", length > 8 ? length : 8, m->tuned[v].value);
        }
        fputc('\n', out);
    }
}

static void print_tuning(FILE *out, const Comparison *c) {
    const Tuning *t = &c->tuning;
    if (!t->key) return;
    fprintf(out, "\n%s by training prompts, %d tries each:\n", t->key, t->values);
    for (int v = 0; v < c->variants; v++) {
        fprintf(out, "%-*s", name_width(c), c->variant[v].name);
        for (int i = 0; i < t->values; i++) {
            const Trial *trial = &t->trial[v * t->values + i];
            if (isnan(trial->score))
                fprintf(out, "  %s diverged", trial->value);
            else
                fprintf(out, "  %s %.3f%s", trial->value, trial->score, i == t->best[v] ? " <" : "");
        }
        fputc('\n', out);
    }
}

char *findings_text(const Findings *f) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    const Comparison *c = f->c;
    const char *calls = compare_calls_note(c);
    fprintf(out, "%s, after all updates (%s)\n", f->metric, calls ? calls : "equal generator calls");
    print_rank(out, f, &f->full, false);
    if (f->has_timed) {
        fprintf(out, "\n%s, at the same time\n", f->metric);
        print_rank(out, f, &f->timed, true);
        fprintf(out, "%s\n", compare_time_note(c));
    }
    fprintf(out, "\n");
    print_all(out, f);
    print_tuning(out, c);
    fprintf(out,
            "\n%d training seed%s; %d held-out prompts, %.0f pictures a run; paired bootstrap over prompts%s; ! marks "
            "intervals without 0\n",
            c->seeds, c->seeds == 1 ? "" : "s", f->full.prompts, f->full.images,
            c->seeds > 1 ? " and training seeds" : "");
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

/* ---- JSON; one NULL spoils what holds it, so only the end is checked ---- */

static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *value_json(const EvalValue *v) {
    return json_pack("{s:o, s:[o,o]}", "value", number(v->value), "interval", number(v->low), number(v->high));
}

static json_t *metric_json(const Findings *f, const ScoreMetric *m) {
    json_t *variants = json_object();
    const Comparison *c = f->c;
    for (int v = 0; v < c->variants && variants; v++) {
        json_t *each = json_array();
        for (int s = 0; s < c->seeds; s++) json_array_append_new(each, number(m->each[v * c->seeds + s]));
        json_t *entry = json_pack("{s:o, s:o, s:o, s:o}", "tuned", value_json(&m->tuned[v]), "gain",
                                  value_json(&m->gain[v]), "first_minus_this", value_json(&m->lead[v]), "seeds", each);
        if (json_object_set_new(variants, c->variant[v].name, entry) < 0) {
            json_decref(variants);
            return NULL;
        }
    }
    return json_pack("{s:o, s:o}", "base", value_json(&m->base), "variants", variants);
}

static json_t *summary_json(const Findings *f, const ScoreSummary *s) {
    json_t *metrics = json_object();
    for (int i = 0; i < s->metrics; i++)
        if (json_object_set_new(metrics, s->metric[i].name, metric_json(f, &s->metric[i])) < 0) {
            json_decref(metrics);
            return NULL;
        }
    return metrics;
}

static json_t *runs_json(const Comparison *c) {
    json_t *runs = json_array();
    for (int v = 0; v < c->variants; v++)
        for (int s = 0; s < c->seeds; s++) {
            const Run *r = &c->run[v * c->seeds + s];
            json_t *run =
                json_pack("{s:s, s:I, s:s, s:I, s:f, s:f, s:f, s:I}", "variant", c->variant[v].name, "seed",
                          (json_int_t)(config_int(c->job->config, OPT_SEED) + s), "folder", r->path, "updates",
                          (json_int_t)r->updates, "generator_calls", r->calls, "seconds", r->seconds,
                          "same_time_seconds", r->timed_seconds, "same_time_updates", (json_int_t)r->timed_updates);
            if (json_array_append_new(runs, run) < 0) {
                json_decref(runs);
                return NULL;
            }
        }
    return runs;
}

static json_t *variants_json(const Comparison *c) {
    json_t *variants = json_object();
    for (int v = 0; v < c->variants; v++) {
        json_t *options = json_object();
        for (int k = 0; k < c->variant[v].overrides; k++)
            json_object_set_new(options, c->variant[v].override[k].key, json_string(c->variant[v].override[k].value));
        if (json_object_set_new(variants, c->variant[v].name, options) < 0) {
            json_decref(variants);
            return NULL;
        }
    }
    return variants;
}

static json_t *tuning_json(const Comparison *c) {
    const Tuning *t = &c->tuning;
    if (!t->key) return json_null();
    const Config *own = c->job->config;
    json_t *variants = json_object();
    for (int v = 0; v < c->variants; v++) {
        json_t *tried = json_array();
        for (int i = 0; i < t->values; i++) {
            const Trial *trial = &t->trial[v * t->values + i];
            json_array_append_new(tried, json_pack("{s:s, s:o}", "value", trial->value, "score", number(trial->score)));
        }
        json_t *entry = json_pack("{s:s, s:o}", "chosen", t->trial[v * t->values + t->best[v]].value, "tried", tried);
        json_object_set_new(variants, c->variant[v].name, entry);
    }
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "option", t->key, "prompts", config_text(own, OPT_PROMPTS),
                     "prompt_count", (json_int_t)config_int(own, OPT_TUNE_PROMPTS), "pictures",
                     (json_int_t)config_int(own, OPT_TUNE_PICTURES), "training_seed",
                     (json_int_t)config_int(own, OPT_TUNE_SEED), "evaluation_seed",
                     (json_int_t)config_int(own, OPT_TUNE_SEED) + 1, "variants", variants);
}

json_t *findings_json(const Findings *f) {
    const Comparison *c = f->c;
    const Config *own = c->job->config;
    const char *command = config_command(own, c->arena), *calls = compare_calls_note(c);
    return json_pack("{s:s, s:s, s:s?, s:s, s:i, s:i, s:s, s:I, s:o, s:o, s:o, s:o, s:o}", "command",
                     command ? command : "", "ranked_by", f->metric, "calls_note", calls, "same_time",
                     config_text(own, OPT_SAME_TIME), "training_seeds", c->seeds, "prompts", f->full.prompts,
                     "test_prompts", config_text(own, OPT_TEST_PROMPTS), "test_seed",
                     (json_int_t)config_int(own, OPT_TEST_SEED), "variants", variants_json(c), "runs", runs_json(c),
                     "metrics", summary_json(f, &f->full), "metrics_at_same_time",
                     f->has_timed ? summary_json(f, &f->timed) : json_null(), "tuning", tuning_json(c));
}
