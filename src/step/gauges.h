/* Gauges: numbers that move when a generator begins to cheat its reward, of pictures and latents alone. Outside the
 * update: training's evaluations.
 *
 *     pairwise          mean over pairs of sqrt(mean (a - b)^2)                  of latents, or of features
 *     saturation        mean over pixels of (max(R,G,B) - min(R,G,B)) / 255      HSV's saturation times its value, 0..1
 *     high frequency    mean over pixels of (4 Y - Y_left - Y_right - Y_up - Y_down)^2 / 20
 *                       Y = (0.299 R + 0.587 G + 0.114 B) / 255; the border's missing neighbours are the pixel itself.
 *                       The variance of white noise that has as much of it (inside the border)
 *     distance          sqrt(sum (x - base)^2 / sum base^2)                      of latents from the same noise
 *     pixel distance    mean |rgb - base| / 255 */
#ifndef DRPO_STEP_GAUGES_H
#define DRPO_STEP_GAUGES_H

#include <stddef.h>
#include <stdint.h>

/* rows [count,size]; NaN for fewer than two. */
double gauge_pairwise(const float *rows, int count, size_t size);
double gauge_saturation(const uint8_t *rgb, size_t pixels);
double gauge_high_frequency(const uint8_t *rgb, int height, int width);
/* Adds sum (x - base)^2 and sum base^2, so that several pictures have one distance. */
void gauge_squares(const float *x, const float *base, size_t n, double *difference, double *norm);
double gauge_pixel_distance(const uint8_t *rgb, const uint8_t *base, size_t n);
/* tuned / base; NaN where the base has nothing to compare with. */
double gauge_ratio(double tuned, double base);

#endif
