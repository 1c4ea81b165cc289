/* Text inputs: what a UNet's graph reads beside latents and time: text states and, in SDXL, pooled text and time ids.
 */
#ifndef DRPO_MODEL_TEXT_INPUTS_H
#define DRPO_MODEL_TEXT_INPUTS_H

#include "engine/plan.h"
#include "model/pipeline.h"

typedef struct TextInputs {
    Value text, added;     /* [1,T,D]; [1,P + 6 E], NULL but in SDXL */
    float *added_values;   /* pooled text of the last prompt, sinusoids of the time ids */
    size_t states, pooled; /* floats of either in what the text encoders gave */
} TextInputs;

/* Pictures of height x width pixels, whose sizes SDXL is told. */
int text_inputs_append(Graph *g, const Pipeline *p, int height, int width, TextInputs *out, Error *err);
/* text: of one prompt (text_encoders.h: states, pooled) */
void text_inputs_write(Plan *plan, TextInputs *t, const float *text);

#endif
