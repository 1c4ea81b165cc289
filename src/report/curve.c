/* Curve: scales, ticks and polylines. Part of the report, after training. */
#include "report/curve.h"

#include <math.h>

#include "report/html.h"

enum { WIDTH = 640, HEIGHT = 260, LEFT = 62, RIGHT = 14, TOP = 12, BOTTOM = 34 };

typedef struct Range {
    double low, high;
} Range;

static void widen(Range *r, double v) {
    if (!isfinite(v)) return;
    if (v < r->low) r->low = v;
    if (v > r->high) r->high = v;
}

/* 1, 2 or 5 times a power of ten: about `count` steps over the range. */
static double tick_step(Range r, int count) {
    double raw = (r.high - r.low) / count, power = pow(10, floor(log10(raw))), unit = raw / power;
    return power * (unit < 1.5 ? 1 : unit < 3.5 ? 2 : unit < 7.5 ? 5 : 10);
}

/* Counted, because v += step stands still where v is huge beside the step. */
enum { MOST_TICKS = 20 };

static double place_x(Range x, double v) { return LEFT + (v - x.low) / (x.high - x.low) * (WIDTH - LEFT - RIGHT); }
static double place_y(Range y, double v) {
    return HEIGHT - BOTTOM - (v - y.low) / (y.high - y.low) * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *out, Range x, Range y) {
    double step = tick_step(y, 5);
    double first = ceil(y.low / step);
    for (int i = 0; i < MOST_TICKS && (first + i) * step <= y.high + 1e-9 * step; i++) {
        double v = (first + i) * step;
        double at = place_y(y, v);
        fprintf(out, "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f />", LEFT, WIDTH - RIGHT, at, at);
        fprintf(out, "<text class=tick x=%d y=%.1f text-anchor=end>%.4g</text>\n", LEFT - 6, at + 4,
                fabs(v) < 1e-9 * step ? 0 : v);
    }
    step = tick_step(x, 6);
    first = ceil(x.low / step);
    for (int i = 0; i < MOST_TICKS && (first + i) * step <= x.high + 1e-9 * step; i++)
        fprintf(out, "<text class=tick x=%.1f y=%d text-anchor=middle>%.6g</text>\n", place_x(x, (first + i) * step),
                HEIGHT - BOTTOM + 18, (first + i) * step);
}

static void draw_line(FILE *out, const Series *s, Range x, Range y, int color, double keep, const char *class_name) {
    double mean = NAN;
    fprintf(out, "<polyline class=\"%s s%d\" points=\"", class_name, color);
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->y[i])) continue;
        mean = isfinite(mean) ? keep * mean + (1 - keep) * s->y[i] : s->y[i];
        fprintf(out, "%.1f,%.1f ", place_x(x, s->x[i]), place_y(y, mean));
    }
    fprintf(out, "\"/>\n");
}

static void draw_legend(FILE *out, const Series *series, int n) {
    fprintf(out, "<figcaption>");
    for (int i = 0; i < n; i++) {
        fprintf(out, "<span class=\"key k%d\">", i);
        html_text(out, series[i].label);
        fprintf(out, "</span> ");
    }
    fprintf(out, "</figcaption>\n");
}

void curve_draw(FILE *out, const char *title, const Series *series, int n_series) {
    Range x = {INFINITY, -INFINITY}, y = {INFINITY, -INFINITY};
    int n = n_series < CURVE_SERIES ? n_series : CURVE_SERIES;
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < series[i].n; k++)
            if (isfinite(series[i].y[k])) {
                widen(&x, series[i].x[k]);
                widen(&y, series[i].y[k]);
            }
    if (!(x.low <= x.high)) return;
    if (x.high == x.low) x.high = x.low + 1;
    double margin = y.high > y.low ? 0.06 * (y.high - y.low) : fmax(fabs(y.high) * 0.1, 1e-6);
    y.low -= margin;
    y.high += margin;

    fprintf(out, "<figure><h3>");
    html_text(out, title);
    fprintf(out, "</h3>\n<svg viewBox=\"0 0 %d %d\" role=img>\n", WIDTH, HEIGHT);
    draw_axes(out, x, y);
    for (int i = 0; i < n; i++) {
        if (series[i].smooth) draw_line(out, &series[i], x, y, i, 0, "faint");
        draw_line(out, &series[i], x, y, i, series[i].smooth ? 0.9 : 0, "line");
    }
    fprintf(out, "</svg>\n");
    draw_legend(out, series, n);
    fprintf(out, "</figure>\n");
}
