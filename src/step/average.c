/* Average: one step of the moving average of the adapter. See average.h. */
#include "step/average.h"

double average_decay(double decay, long updates) {
    const double early = (1 + (double)updates) / (10 + (double)updates);
    return early < decay ? early : decay;
}

void average_update(float *average, const float *values, size_t count, double decay, long updates) {
    const float share = (float)(1 - average_decay(decay, updates));
    for (size_t i = 0; i < count; i++) average[i] += share * (values[i] - average[i]);
}
