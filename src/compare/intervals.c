/* Intervals: a chart of values with whiskers. See intervals.h. */
#include "compare/intervals.h"

#include <math.h>
#include <string.h>

#include "report/html.h"

enum { WIDTH = 640, ROW = 34, TOP = 8, BOTTOM = 34, RIGHT = 16, LETTER = 7, LONGEST_LABEL = 30 };

typedef struct Scale {
    double low, high;
    int left;
} Scale;

static double place(const Scale *s, double v) {
    return s->left + (v - s->low) / (s->high - s->low) * (WIDTH - RIGHT - s->left);
}

static void widen(Scale *s, double v) {
    if (!isfinite(v)) return;
    if (v < s->low) s->low = v;
    if (v > s->high) s->high = v;
}

static Scale find_scale(const IntervalRow *row, int n, double mark) {
    Scale s = {INFINITY, -INFINITY, 0};
    size_t longest = 4;
    widen(&s, mark);
    for (int i = 0; i < n; i++) {
        widen(&s, row[i].value), widen(&s, row[i].low), widen(&s, row[i].high);
        for (int k = 0; k < row[i].n; k++) widen(&s, row[i].each[k]);
        if (strlen(row[i].label) > longest) longest = strlen(row[i].label);
    }
    double margin = s.high > s.low ? 0.05 * (s.high - s.low) : 0.01;
    s.low -= margin;
    s.high += margin;
    s.left = (int)(longest < LONGEST_LABEL ? longest : LONGEST_LABEL) * LETTER + 16;
    return s;
}

static void draw_axis(FILE *out, const Scale *s, int height) {
    double raw = (s->high - s->low) / 5, power = pow(10, floor(log10(raw))), unit = raw / power;
    double step = power * (unit < 1.5 ? 1 : unit < 3.5 ? 2 : unit < 7.5 ? 5 : 10), first = ceil(s->low / step);
    for (int i = 0; i < 12 && (first + i) * step <= s->high; i++) {
        double at = place(s, (first + i) * step);
        fprintf(out, "<line class=grid x1=%.1f x2=%.1f y1=%d y2=%d />", at, at, TOP, height - BOTTOM);
        fprintf(out, "<text class=tick x=%.1f y=%d text-anchor=middle>%.4g</text>\n", at, height - BOTTOM + 18,
                fabs(first + i) < 1e-9 ? 0 : (first + i) * step);
    }
}

static void draw_row(FILE *out, const Scale *s, const IntervalRow *r, double y) {
    fprintf(out, "<text class=tick x=%d y=%.1f text-anchor=end>", s->left - 10, y + 4);
    char label[LONGEST_LABEL + 4];
    bool cut = strlen(r->label) > LONGEST_LABEL;
    snprintf(label, sizeof label, "%.*s%s", cut ? LONGEST_LABEL - 1 : LONGEST_LABEL, r->label,
             cut ? "\xe2\x80\xa6" : "");
    html_text(out, label);
    fprintf(out, "</text>");
    if (!isfinite(r->value)) return;
    if (isfinite(r->low) && isfinite(r->high))
        fprintf(out, "<line class=\"line s0\" x1=%.1f x2=%.1f y1=%.1f y2=%.1f />", place(s, r->low), place(s, r->high),
                y, y);
    fprintf(out, "<circle cx=%.1f cy=%.1f r=5 style=\"fill:var(--c0)\"/>", place(s, r->value), y);
    for (int k = 0; k < r->n; k++)
        if (isfinite(r->each[k]))
            fprintf(out, "<circle cx=%.1f cy=%.1f r=2.2 style=\"fill:var(--soft)\"/>", place(s, r->each[k]), y + 9);
    fputc('\n', out);
}

void intervals_draw(FILE *out, const char *title, const IntervalRow *row, int n, double mark, const char *mark_label) {
    const Scale s = find_scale(row, n, mark);
    const int height = TOP + BOTTOM + n * ROW;
    fprintf(out, "<figure><h3>");
    html_text(out, title);
    fprintf(out, "</h3>\n<svg viewBox=\"0 0 %d %d\" role=img>\n", WIDTH, height);
    draw_axis(out, &s, height);
    if (isfinite(mark))
        fprintf(out, "<line class=\"line s1\" stroke-dasharray=\"5 4\" x1=%.1f x2=%.1f y1=%d y2=%d />\n",
                place(&s, mark), place(&s, mark), TOP, height - BOTTOM);
    for (int i = 0; i < n; i++) draw_row(out, &s, &row[i], TOP + ROW * (i + 0.5));
    fprintf(out, "</svg>\n<figcaption><span class=\"key k1\">");
    html_text(out, mark_label);
    fprintf(out, "</span> <span class=\"key k0\">mean and 95 %% interval</span>%s</figcaption></figure>\n",
            row[0].n ? " <span>small: single runs</span>" : "");
}
