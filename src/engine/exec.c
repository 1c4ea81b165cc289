/* Execution: attach memory, fill inputs, launch kernels in order, read outputs. Nothing is decided and nothing is
 * allocated here; pointers are resolved once, when memory is attached. */
#include "engine/plan_private.h"

#include "base/clock.h"

#include <string.h>

int plan_bind(Plan *p, void *memory, Error *err) {
    plan_release_memory(p);
    if (!memory) {
        memory = p->backend->alloc(p->backend, p->peak ? p->peak : BUFFER_ALIGN);
        if (!memory)
            return fail(err, DRPO_E_MEMORY, "%.1f MiB for activations are not available; lower the chunk or batch size",
                        (double)p->peak / (1 << 20));
        p->owns_memory = true;
    }
    p->memory = memory;
    for (int i = 0; i < p->n_step; i++) {
        Step *s = &p->step[i];
        s->out = plan_address(p, s->node);
        for (int j = 0; j < s->node->n_in; j++) {
            bool packed = s->kernel.packed >> j & 1u;
            s->in[j] = s->node->in[j] && !packed ? plan_address(p, s->node->in[j]) : NULL;
        }
    }
    return 0;
}

void plan_write(Plan *p, Value input, const void *host) {
    void *device = input ? plan_address(p, input) : NULL;
    if (device && input->op == OP_INPUT) p->backend->copy_in(p->backend, input, host, device);
}

void plan_read(const Plan *p, Value output, float *host) {
    const void *device = output ? plan_address(p, output) : NULL;
    if (device) p->backend->copy_out(p->backend, output, device, host);
}

static int run_step(Plan *p, const Step *s, Error *err) {
    if (s->kernel.run) {
        double start = p->profile ? clock_seconds() : 0;
        int code = s->kernel.run(&s->kernel, s->out, s->in, p->memory + p->workspace_at);
        if (code < 0) {
            char shape[96];
            return fail(err, code, "%s %s%s%s failed while running", op_name(s->node->op),
                        shape_text(s->node->shape, shape), s->node->name ? " " : "",
                        s->node->name ? s->node->name : "");
        }
        if (p->profile) {
            if (p->backend->sync) p->backend->sync(p->backend);
            p->seconds[s->node->op] += clock_seconds() - start;
            p->runs[s->node->op]++;
        }
    }
    if (p->tap) p->tap(p->tap_user, s->node, s->out);
    return 0;
}

static int run_steps(Plan *p, int first, int end, Error *err) {
    if (!p->memory) return fail(err, DRPO_E_INTERNAL, "a plan runs only after plan_bind");
    for (int i = first; i < end; i++) TRY(run_step(p, &p->step[i], err));
    if (p->backend->sync) p->backend->sync(p->backend);
    return 0;
}

int plan_run(Plan *p, Error *err) { return run_steps(p, 0, p->n_step, err); }
int plan_run_forward(Plan *p, Error *err) { return run_steps(p, 0, p->n_forward, err); }
int plan_run_backward(Plan *p, Error *err) { return run_steps(p, p->n_forward, p->n_step, err); }

void plan_tap(Plan *p, void (*tap)(void *user, const Node *n, const void *device), void *user) {
    p->tap = tap;
    p->tap_user = user;
}

void plan_profile(Plan *p, bool on) {
    p->profile = on;
    memset(p->seconds, 0, sizeof p->seconds);
    memset(p->runs, 0, sizeof p->runs);
}

void plan_times(const Plan *p, double seconds[OP_COUNT], long runs[OP_COUNT]) {
    memcpy(seconds, p->seconds, sizeof p->seconds);
    memcpy(runs, p->runs, sizeof p->runs);
}
