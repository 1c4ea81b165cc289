/* Curve: one chart of a report as inline SVG, drawn with the page's own colours (light and dark). */
#ifndef DRPO_REPORT_CURVE_H
#define DRPO_REPORT_CURVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { CURVE_SERIES = 6 }; /* most that one figure holds */

typedef struct Series {
    const char *label;
    const double *x, *y; /* [n]; points with a y that is not finite are left out */
    size_t n;
    bool smooth; /* also draw the exponential mean, the raw line thin */
} Series;

/* A figure with title, axes, a grid and at most CURVE_SERIES series. Draws nothing when no series has a point. */
void curve_draw(FILE *out, const char *title, const Series *series, int n_series);

#endif
