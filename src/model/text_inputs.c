/* Text inputs of a UNet's graph. See text_inputs.h. Every pass through a UNet has them. */
#include "model/text_inputs.h"

#include <string.h>

/* SDXL's time ids as the stock pipeline gives them: original height and width, top and left of the crop, target height
 * and width, all of the picture that is made. Only the pooled text in front of them changes from prompt to prompt. */
int text_inputs_append(Graph *g, const Pipeline *p, int height, int width, TextInputs *out, Error *err) {
    const UnetConfig *u = &p->unet;
    *out = (TextInputs){.text = input(g, "text", DT_F32, shape3(1, p->text.tokens, p->text.width)),
                        .states = (size_t)p->text.tokens * (size_t)p->text.width,
                        .pooled = (size_t)p->text.pooled};
    if (!u->added_text_time) return 0;
    const int ids[] = {height, width, 0, 0, height, width}, dim = u->addition_time_embed_dim;
    out->added = input(g, "added", DT_F32, shape2(1, u->projection_input_dim));
    out->added_values = arena_alloc(graph_arena(g), (size_t)u->projection_input_dim * sizeof(float));
    if (!out->added_values) return fail(err, DRPO_E_MEMORY, "text inputs: out of memory");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        timestep_embedding((float)ids[i], dim, u->flip_sin_to_cos, (float)u->freq_shift,
                           out->added_values + out->pooled + i * (size_t)dim);
    return 0;
}

void text_inputs_write(Plan *plan, TextInputs *t, const float *text) {
    plan_write(plan, t->text, text);
    if (!t->added) return;
    memcpy(t->added_values, text + t->states, t->pooled * sizeof(float));
    plan_write(plan, t->added, t->added_values);
}
