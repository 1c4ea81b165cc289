/* The summary of an evaluation as lines for people and as JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/table.h"

/* "!" marks a difference whose interval leaves out 0. */
static bool stands_out(const EvalValue *v) { return v->low > 0 || v->high < 0; }

static void print_compared(FILE *out, const EvalSummary *s, int width) {
    fprintf(out, "%-*s  %8s  %8s  %10s  95 %% interval\n", width, "", "base", "tuned", "difference");
    for (int k = 0; k < s->metrics; k++) {
        const EvalMetric *m = &s->metric[k];
        fprintf(out, "%-*s  %8.3f  %8.3f  %+10.3f  %+.3f .. %+.3f%s\n", width, m->name, m->base.value, m->tuned.value,
                m->difference.value, m->difference.low, m->difference.high, stands_out(&m->difference) ? "  !" : "");
    }
    fprintf(out, "%zu prompts, %zu images each; paired bootstrap over prompts; ! marks intervals without 0\n",
            s->prompts, s->images);
}

static void print_alone(FILE *out, const EvalSummary *s, int width) {
    fprintf(out, "%-*s  %8s  95 %% interval\n", width, "", "value");
    for (int k = 0; k < s->metrics; k++) {
        const EvalValue *v = &s->metric[k].base;
        fprintf(out, "%-*s  %8.3f  %.3f .. %.3f\n", width, s->metric[k].name, v->value, v->low, v->high);
    }
    fprintf(out, "%zu prompts, %zu images; bootstrap over prompts\n", s->prompts, s->images);
}

char *eval_summary_text(const EvalSummary *s) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    int width = 0;
    for (int k = 0; k < s->metrics; k++)
        width = (int)strlen(s->metric[k].name) > width ? (int)strlen(s->metric[k].name) : width;
    if (s->compared)
        print_compared(out, s, width);
    else
        print_alone(out, s, width);
    if (s->failed) fprintf(out, "%zu prompts left out: a reward could not score their pictures\n", s->failed);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

/* JSON has no NaN: what was not measured is null. */
static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static int set_value(json_t *object, const char *key, const char *interval_key, const EvalValue *v) {
    json_t *range = json_array();
    if (json_object_set_new(object, key, number(v->value)) < 0 || json_object_set_new(object, interval_key, range) < 0)
        return -1;
    return json_array_append_new(range, number(v->low)) < 0 || json_array_append_new(range, number(v->high)) < 0 ? -1
                                                                                                                 : 0;
}

json_t *eval_summary_json(const EvalSummary *s) {
    json_t *root = json_object(), *metrics = json_object();
    int bad = json_object_set_new(root, "prompts", json_integer((json_int_t)s->prompts)) < 0;
    bad |= json_object_set_new(root, "images", json_integer((json_int_t)s->images)) < 0;
    if (s->failed) bad |= json_object_set_new(root, "prompts_failed", json_integer((json_int_t)s->failed)) < 0;
    bad |= json_object_set_new(root, "metrics", metrics) < 0;
    for (int k = 0; k < s->metrics && !bad; k++) {
        const EvalMetric *m = &s->metric[k];
        json_t *entry = json_object();
        bad |=
            json_object_set_new(metrics, m->name, entry) < 0 || set_value(entry, "base", "base_interval", &m->base) < 0;
        if (!s->compared || bad) continue;
        bad |= set_value(entry, "tuned", "tuned_interval", &m->tuned) < 0 ||
               set_value(entry, "difference", "interval", &m->difference) < 0;
    }
    if (!bad) return root;
    json_decref(root);
    return NULL;
}
