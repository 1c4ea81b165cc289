/* Gauges: their formulas. See gauges.h. */
#include "step/gauges.h"

#include <math.h>
#include <stdlib.h>

double gauge_pairwise(const float *rows, int count, size_t size) {
    double sum = 0;
    for (int a = 0; a < count; a++)
        for (int b = a + 1; b < count; b++) {
            const float *x = rows + (size_t)a * size, *y = rows + (size_t)b * size;
            double squares = 0;
            for (size_t i = 0; i < size; i++) {
                const double v = (double)x[i] - y[i];
                squares += v * v;
            }
            sum += sqrt(squares / (double)size);
        }
    return count > 1 ? sum / (0.5 * count * (count - 1)) : NAN;
}

double gauge_saturation(const uint8_t *rgb, size_t pixels) {
    uint64_t sum = 0;
    for (size_t i = 0; i < pixels; i++) {
        const uint8_t *p = rgb + 3 * i;
        uint8_t low = p[0] < p[1] ? p[0] : p[1], high = p[0] > p[1] ? p[0] : p[1];
        if (p[2] < low) low = p[2];
        if (p[2] > high) high = p[2];
        sum += (uint64_t)(high - low);
    }
    return (double)sum / (255.0 * (double)pixels);
}

/* In thousandths of a step of 8 bits, so that the sums below are exact. */
static int luma(const uint8_t *rgb, size_t pixel) {
    const uint8_t *p = rgb + 3 * pixel;
    return 299 * p[0] + 587 * p[1] + 114 * p[2];
}

double gauge_high_frequency(const uint8_t *rgb, int height, int width) {
    const size_t row = (size_t)width;
    double sum = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const size_t at = (size_t)y * row + (size_t)x;
            const int here = luma(rgb, at);
            int laplacian = 0;
            if (x > 0) laplacian += here - luma(rgb, at - 1);
            if (x + 1 < width) laplacian += here - luma(rgb, at + 1);
            if (y > 0) laplacian += here - luma(rgb, at - row);
            if (y + 1 < height) laplacian += here - luma(rgb, at + row);
            sum += (double)laplacian * laplacian;
        }
    return sum / (20.0 * 255000.0 * 255000.0 * (double)height * (double)width);
}

void gauge_squares(const float *x, const float *base, size_t n, double *difference, double *norm) {
    for (size_t i = 0; i < n; i++) {
        const double v = (double)x[i] - base[i];
        *difference += v * v;
        *norm += (double)base[i] * base[i];
    }
}

double gauge_pixel_distance(const uint8_t *rgb, const uint8_t *base, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (uint64_t)abs((int)rgb[i] - (int)base[i]);
    return (double)sum / (255.0 * (double)n);
}

double gauge_ratio(double tuned, double base) { return base > 0 ? tuned / base : NAN; }
