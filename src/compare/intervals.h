/* Intervals: values with their 95 % intervals, a row each, as inline SVG in the page's own colours. */
#ifndef DRPO_COMPARE_INTERVALS_H
#define DRPO_COMPARE_INTERVALS_H

#include <stdbool.h>
#include <stdio.h>

typedef struct IntervalRow {
    const char *label;
    double value, low, high;
    const double *each; /* [n] values of single runs, drawn small */
    int n;
} IntervalRow;

/* `mark`: a vertical line, named `mark_label` below the chart. */
void intervals_draw(FILE *out, const char *title, const IntervalRow *row, int n, double mark, const char *mark_label);

#endif
