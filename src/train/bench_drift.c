/* `drpo bench drift`: one drift field (step/drift.h) at growing numbers of rows, with the features of a real run: a
 * quarter of the candidates attract, a quarter repel. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/threads.h"
#include "step/drift.h"
#include "train/bench.h"

typedef struct Size {
    size_t rows, dim;
} Size;

static const Size sizes[] = {{16, 1024}, {256, 256}, {1024, 256}, {4096, 256}, {16384, 64}, {100000, 4}};

static int time_size(const Job *job, Size s, Error *err) {
    static const float radii[] = {0.02f, 0.05f, 0.2f};
    float *x = malloc(s.rows * s.dim * sizeof *x), *grad = malloc(s.rows * s.dim * sizeof *grad);
    int code = x && grad ? 0 : fail(err, DRPO_E_MEMORY, "out of memory for %zu rows", s.rows);
    if (code == 0) rng_normal((RngKey){.seed = 1, .stream = RNG_TEST}, x, s.rows * s.dim);
    size_t quarter = s.rows / 4;
    DriftInput in = {.x = x,
                     .pos = x,
                     .neg = x ? x + (s.rows - quarter) * s.dim : NULL,
                     .n = s.rows,
                     .p = quarter,
                     .m = quarter,
                     .d = s.dim,
                     .w_pos = 3000,
                     .w_neg = 3000,
                     .radii = radii,
                     .n_radii = 3};
    DriftResult result;
    int threads = (int)config_int(job->config, OPT_THREADS);
    if (threads == 0) threads = threads_default();
    double start = clock_seconds();
    if (code == 0) code = drift_field(&in, threads, NULL, grad, &result, err);
    double seconds = clock_seconds() - start, pairs = (double)s.rows * (double)(s.rows + 2 * quarter);
    const char *format = config_bool(job->config, OPT_JSON)
                             ? "{\"rows\": %zu, \"dim\": %zu, \"seconds\": %.4f, \"pairs_per_second\": %.4g, "
                               "\"peak_mib\": %.0f}"
                             : "%7zu rows of %4zu: %9.4f s, %.3g pairs/s, peak %.0f MiB";
    if (code == 0)
        job_result(job, format, s.rows, s.dim, seconds, pairs / seconds, (double)memory_peak_bytes() / 1048576);
    free(x);
    free(grad);
    return code;
}

int bench_drift(const Job *job, Error *err) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !job_cancelled(job); i++) TRY(time_size(job, sizes[i], err));
    return 0;
}
