/* Average: the exponential moving average of an adapter's values over the updates.
 *
 *     d_t = min(decay, (1 + t) / (10 + t));   average = d_t average + (1 - d_t) values,   t updates before this one
 *
 * The decay rises over the first updates, so that the start of a short run does not weigh on its average. In the
 * update: optimize -> average. */
#ifndef DRPO_STEP_AVERAGE_H
#define DRPO_STEP_AVERAGE_H

#include <stddef.h>

double average_decay(double decay, long updates);
/* Takes in the `values` after update number `updates` (from 0); both [count]. */
void average_update(float *average, const float *values, size_t count, double decay, long updates);

#endif
