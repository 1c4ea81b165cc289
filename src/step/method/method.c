/* Methods: which one, and what all share. See method.h. */
#include "step/method/method.h"

#include <string.h>

void method_act(const MethodOptions *o, const float *noise, float *latents, int count, size_t width) {
    if (o->kind == METHOD_PSO) method_pso_act(o, noise, latents, count, width);
}

int method_gradient(const MethodInput *in, double *loss, bool *anchored, Error *err) {
    const MethodKind kind = in->options->kind;
    memset(in->latents->grad, 0, (size_t)in->count * in->width * sizeof *in->latents->grad);
    *anchored = kind == METHOD_GRPO;
    switch (kind) {
    case METHOD_DPO: return method_dpo(in, loss, err);
    case METHOD_PSO: return method_pso(in, loss, err);
    case METHOD_GRPO: return method_grpo(in, loss, err);
    case METHOD_DRAFT: return method_draft(in, loss, err);
    case METHOD_VGGFLOW: return method_vggflow(in, loss, err);
    case METHOD_DRPO: break;
    }
    return fail(err, DRPO_E_INTERNAL, "method %d has no gradient of its own", (int)kind);
}
