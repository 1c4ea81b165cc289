/* Workers: how many prompts are learned from at once, and the threads that do it. Around the stages of the update. */
#include "step/workers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */
static int choose_count(Pipeline *p, Backend *b, const NetworksOptions *o, int most, int *count, Error *err) {
    *count = most;
    if (*count > MAX_WORKERS) *count = MAX_WORKERS;
    if (*count < 2 || !b->share) {
        *count = 1;
        return 0;
    }
    size_t bytes;
    TRY(networks_measure(p, b, o, &bytes, err));
    size_t fit = networks_budget(o) / (bytes ? bytes : 1);
    if ((size_t)*count > fit) *count = fit ? (int)fit : 1;
    return 0;
}

static int open_worker(Pipeline *p, Backend *b, const NetworksOptions *o, Worker *w, Error *err) {
    TRY(networks_open(p, b, o, &w->net, err));
    TRY(candidates_allocate(&w->candidates, o->candidates, o->rounds,
                            (size_t)p->latent_channels * (size_t)o->height * (size_t)o->width, o->height * p->factor,
                            o->width * p->factor,
                            &(CandidatePasses){w->net.policy, w->net.aside, o->redraws, o->differentiates}, err));
    w->text = malloc(text_encoders_floats(&p->text) * sizeof(float));
    w->grad = malloc(o->adapter->count * sizeof(float));
    return w->text && w->grad ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

static int open_all(Pipeline *p, Backend *b, const NetworksOptions *o, int threads, Workers *out, Error *err) {
    NetworksOptions each = *o;
    if (out->count > 1) each.budget = networks_budget(o) / (size_t)out->count;
    for (int i = 0; i < out->count; i++) {
        Worker *w = &out->worker[i];
        w->threads = threads > out->count ? threads / out->count : 1;
        if (out->count > 1 && !(w->shared = b->share(b, w->threads, err))) return err->code;
        TRY(open_worker(p, w->shared ? w->shared : b, &each, w, err));
    }
    return 0;
}

int workers_open(Pipeline *p, Backend *b, const NetworksOptions *o, int threads, bool more, int prompts, Workers *out,
                 Error *err) {
    *out = (Workers){0};
    int count;
    TRY(choose_count(p, b, o, more || prompts < threads ? prompts : threads, &count, err));
    out->worker = calloc((size_t)count, sizeof *out->worker);
    if (!out->worker) return fail(err, DRPO_E_MEMORY, "out of memory");
    out->count = count;
    int code = open_all(p, b, o, threads, out, err);
    if (code < 0) workers_close(out);
    return code;
}

void workers_close(Workers *w) {
    for (int i = 0; i < w->count; i++) {
        Worker *one = &w->worker[i];
        networks_close(&one->net);
        candidates_free(&one->candidates);
        free(one->text);
        free(one->grad);
        if (one->shared) backend_free(one->shared);
    }
    free(w->worker);
    *w = (Workers){0};
}

/* ---- running ---- */
typedef struct Task {
    Worker *worker;
    void (*work)(Worker *worker, void *user);
    void *user;
} Task;

static void *run_task(void *argument) {
    const Task *t = argument;
    t->work(t->worker, t->user);
    return NULL;
}

/* Threads live for one update: starting one costs microseconds. The caller is the first worker. */
void workers_run(Workers *w, int n, void (*work)(Worker *worker, void *user), void *user) {
    pthread_t thread[MAX_WORKERS];
    bool started[MAX_WORKERS] = {false};
    Task task[MAX_WORKERS];
    for (int i = 0; i < n; i++) task[i] = (Task){&w->worker[i], work, user};
    for (int i = 1; i < n; i++) started[i] = pthread_create(&thread[i], NULL, run_task, &task[i]) == 0;
    run_task(&task[0]);
    for (int i = 1; i < n; i++)
        if (started[i]) pthread_join(thread[i], NULL);
}
