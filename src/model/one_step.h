/* One step: what the scheduler of a one-step generator does, as three numbers.
 *
 *     UNet input = input_scale z,   x0 = z_factor z - eps_factor eps */
#ifndef DRPO_MODEL_ONE_STEP_H
#define DRPO_MODEL_ONE_STEP_H

#include <stdbool.h>

#include "base/error.h"

typedef struct OneStep {
    float timestep;    /* 999 */
    float input_scale; /* stock: sigma / sqrt(sigma^2 + 1); released: 1 */
    float z_factor, eps_factor;
    bool ancestral; /* the scheduler's name only: its noise is multiplied by zero */
} OneStep;

/* Of scheduler_config.json (as document_load takes it): what the stock pipeline runs. A scheduler that would do
 * anything else with one step is an error. */
int one_step_read(const char *document, OneStep *out, Error *err);
/* The four-digit constants of the released trainer of SD-Turbo. */
OneStep one_step_released(void);

#endif
