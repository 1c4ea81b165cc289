/* The cloud of the drift: d_ij = sqrt(max(|x_i|^2 + |t_j|^2 - 2 x_i.t_j, 1e-8)) between samples and all distinct rows.
 *
 * The common mean is subtracted and products are summed in float64, because at radius 0.02 the logit of a near
 * duplicate is lost to rounding otherwise. Pairs so close that even that cancels are measured by direct difference. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "step/drift_internal.h"

enum {
    SHORT = 64, /* coordinates */
    SCRATCH_ROWS = DRIFT_ROWS * DRIFT_DEPTH,
    SCRATCH_COLUMNS = DRIFT_COLUMNS * DRIFT_DEPTH,
    SCRATCH_PRODUCTS = DRIFT_ROWS * DRIFT_COLUMNS,
    SCRATCH_TILE = DRIFT_ROWS * DRIFT_TILE,
    CLOUD_SCRATCH = SCRATCH_ROWS + SCRATCH_COLUMNS + SCRATCH_PRODUCTS + SCRATCH_TILE
};

/* Above this measures are computed again in each pass instead of kept; of short rows that is faster than memory. */
static const size_t CACHE_BYTES = (size_t)1 << 30, CACHE_BYTES_SHORT = (size_t)32 << 20;
/* Pair coordinates below which waking other threads costs more than they bring. */
static const double SMALL = 1 << 21;

static size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

static int check_finite(const Cloud *c, Error *err) {
    long bad = -1;
#pragma omp parallel for num_threads(c->threads) schedule(static) reduction(max : bad)
    for (size_t u = 0; u < c->rows; u++)
        for (size_t k = 0; k < c->dim; k++)
            if (!isfinite(c->row[u][k])) {
                bad = (long)u > bad ? (long)u : bad;
                break;
            }
    if (bad < 0) return 0;
    return fail(err, DRPO_E_NUMERIC,
                "drift: %s row %ld holds a NaN or an infinity; lower the learning rate or check the features",
                bad < (long)c->samples ? "sample" : "anchor", bad < (long)c->samples ? bad : bad - (long)c->samples);
}

static void find_mean(Cloud *c) {
    memset(c->mean, 0, c->dim * sizeof(double));
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (size_t first = 0; first < c->dim; first += DRIFT_DEPTH) {
        const size_t last = first + DRIFT_DEPTH < c->dim ? first + DRIFT_DEPTH : c->dim;
        for (size_t u = 0; u < c->rows; u++)
            for (size_t k = first; k < last; k++) c->mean[k] += c->row[u][k];
        for (size_t k = first; k < last; k++) c->mean[k] /= (double)c->rows;
    }
}

static void find_squares(Cloud *c) {
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (size_t u = 0; u < c->rows; u++) {
        double sum = 0;
        for (size_t k = 0; k < c->dim; k++) {
            const double v = c->row[u][k] - (c->cosine ? 0 : c->mean[k]);
            sum += v * v;
        }
        c->square[u] = sum;
    }
}

/* Centred rows (cosine: as they are) first..first+count-1, coordinates from..from+depth-1, as float64
 * [round_up(count,4), DRIFT_DEPTH], zero-padded. */
static void load_rows(const Cloud *c, size_t first, size_t count, size_t from, size_t depth, double *out) {
    const double keep = c->cosine ? 0 : 1;
    for (size_t i = 0; i < round_up(count, 4); i++) {
        double *to = out + i * DRIFT_DEPTH;
        const float *x = i < count ? c->row[first + i] + from : NULL;
        for (size_t k = 0; x && k < depth; k++) to[k] = x[k] - keep * c->mean[from + k];
        for (size_t k = 0; !x && k < depth; k++) to[k] = 0;
    }
}

static double direct_square(const Cloud *c, size_t i, size_t u) {
    double sum = 0;
    for (size_t k = 0; k < c->dim; k++) {
        const double v = (double)c->row[i][k] - c->row[u][k];
        sum += v * v;
    }
    return sum;
}

/* Distances of rows whose products cancel, by difference. margin [rows]: see the kernel. */
static void mend_near(const Cloud *c, size_t i0, size_t rows, size_t u0, size_t columns, const double *product,
                      const double *margin, double *tile) {
    for (size_t i = 0; i < rows; i++)
        for (size_t u = 0; u < columns && margin[i] < 0; u++) {
            const double norms = c->square[i0 + i] + c->square[u0 + u];
            if (norms - 2 * product[i * DRIFT_COLUMNS + u] >= DRIFT_NEAR * norms) continue;
            const double square = i0 + i == u0 + u ? 0 : direct_square(c, i0 + i, u0 + u);
            tile[i * DRIFT_TILE + u] = sqrt(fmax(square, 1e-8));
        }
}

static void fill_cosines(const Cloud *c, size_t i0, size_t rows, size_t u0, size_t columns, const double *product,
                         double *tile) {
    double share[DRIFT_COLUMNS];
    for (size_t u = 0; u < columns; u++) share[u] = 1 / fmax(sqrt(c->square[u0 + u]), 1e-8);
    for (size_t i = 0; i < rows; i++) {
        const double own = -1 / fmax(sqrt(c->square[i0 + i]), 1e-8);
        for (size_t u = 0; u < columns; u++) tile[i * DRIFT_TILE + u] = product[i * DRIFT_COLUMNS + u] * own * share[u];
    }
}

/* The calling thread's tile of measures of samples i0.. x rows u0.. of the cloud. */
static double *fill_tile(const Cloud *c, size_t i0, size_t rows, size_t u0) {
    const size_t columns = u0 + DRIFT_COLUMNS < c->rows ? DRIFT_COLUMNS : c->rows - u0;
    double *a = c->scratch + (size_t)omp_get_thread_num() * CLOUD_SCRATCH, *b = a + SCRATCH_ROWS,
           *product = b + SCRATCH_COLUMNS, *tile = product + SCRATCH_PRODUCTS;
    size_t *loaded = c->loaded + omp_get_thread_num();
    const size_t present =
        c->dim <= DRIFT_DEPTH ? (i0 + 1) * (DRIFT_ROWS + 1) + rows : 0; /* 0: not all of a row fits */
    memset(product, 0, SCRATCH_PRODUCTS * sizeof(double));
    for (size_t k = 0; k < c->dim; k += DRIFT_DEPTH) {
        const size_t depth = k + DRIFT_DEPTH < c->dim ? DRIFT_DEPTH : c->dim - k;
        if (!present || *loaded != present) load_rows(c, i0, rows, k, depth, a);
        load_rows(c, u0, columns, k, depth, b);
        c->kernels->dots(a, b, round_up(rows, 4), round_up(columns, 4), depth, product);
    }
    *loaded = present;
    if (c->cosine) {
        fill_cosines(c, i0, rows, u0, columns, product, tile);
        return tile;
    }
    double square[DRIFT_COLUMNS] = {0}, margin[DRIFT_ROWS];
    memcpy(square, c->square + u0, columns * sizeof(double));
    c->kernels->distances(product, c->square + i0, square, rows, tile, margin);
    mend_near(c, i0, rows, u0, columns, product, margin, tile);
    return tile;
}

static void copy_rows(const double *from, size_t stride, size_t rows, size_t columns, double *to, size_t to_stride) {
    for (size_t i = 0; i < rows; i++) memcpy(to + i * to_stride, from + i * stride, columns * sizeof(double));
}

static void fill(Cloud *c, size_t first, size_t count, double *out) {
    const size_t row_tiles = (count + DRIFT_ROWS - 1) / DRIFT_ROWS,
                 column_tiles = (c->rows + DRIFT_COLUMNS - 1) / DRIFT_COLUMNS;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (size_t k = 0; k < row_tiles * column_tiles; k++) {
        const size_t i = k / column_tiles * DRIFT_ROWS, u = k % column_tiles * DRIFT_COLUMNS;
        const size_t rows = i + DRIFT_ROWS < count ? DRIFT_ROWS : count - i;
        const size_t columns = u + DRIFT_COLUMNS < c->rows ? DRIFT_COLUMNS : c->rows - u;
        copy_rows(fill_tile(c, first + i, rows, u), DRIFT_TILE, rows, columns, out + i * c->rows + u, c->rows);
    }
}

void cloud_ready(Cloud *c) {
    if (!c->cache || c->filled) return;
    fill(c, 0, c->samples, c->cache);
    c->filled = true;
}

const double *cloud_measure(Cloud *c, size_t first, size_t count) {
    cloud_ready(c);
    if (c->cache) return c->cache + first * c->rows;
    fill(c, first, count, c->block);
    return c->block;
}

double *cloud_tile(const Cloud *c, size_t first, size_t count, size_t from, size_t limit) {
    const size_t columns = from + DRIFT_COLUMNS < limit ? DRIFT_COLUMNS : limit - from;
    double *tile;
    if (c->cache) {
        tile = c->scratch + (size_t)omp_get_thread_num() * CLOUD_SCRATCH + CLOUD_SCRATCH - SCRATCH_TILE;
        copy_rows(c->cache + first * c->rows + from, c->rows, count, columns, tile, DRIFT_TILE);
    } else {
        tile = fill_tile(c, first, count, from);
    }
    for (size_t i = 0; i < count && columns < DRIFT_COLUMNS; i++)
        for (size_t u = columns; u < DRIFT_COLUMNS; u++) tile[i * DRIFT_TILE + u] = DRIFT_FAR;
    return tile;
}

void cloud_use_cosine(Cloud *c) {
    c->cosine = true;
    c->filled = false;
    memset(c->loaded, 0, (size_t)c->threads * sizeof *c->loaded);
    find_squares(c);
}

static int allocate(Cloud *c, Error *err) {
    const size_t pairs = c->samples * c->rows;
    c->row = calloc(c->rows, sizeof *c->row);
    c->mean = calloc(c->dim, sizeof(double));
    c->square = calloc(c->rows, sizeof(double));
    c->scratch = aligned_alloc(64, (size_t)c->threads * CLOUD_SCRATCH * sizeof(double));
    c->loaded = calloc((size_t)c->threads, sizeof *c->loaded);
    if (pairs <= (c->dim < SHORT ? CACHE_BYTES_SHORT : CACHE_BYTES) / sizeof(double))
        c->cache = malloc(pairs * sizeof(double));
    else
        c->block = malloc(DRIFT_ROWS * c->rows * sizeof(double));
    if (c->row && c->mean && c->square && c->scratch && c->loaded && (c->cache || c->block)) return 0;
    return fail(err, DRPO_E_MEMORY, "drift: no memory for the distances of %zu samples to %zu rows of %zu features",
                c->samples, c->rows, c->dim);
}

int cloud_open(Cloud *c, int segments, const float *const *base, const size_t *count, size_t dim, int threads,
               Error *err) {
    *c = (Cloud){.samples = count[0], .dim = dim, .threads = threads > 0 ? threads : threads_default()};
    for (int k = 0; k < segments; k++) c->rows += count[k];
    if ((double)c->samples * (double)c->rows * (double)(c->dim + 64) < SMALL) c->threads = 1;
    c->kernels = drift_kernels(DRIFT_KERNELS_BEST);
    int code = allocate(c, err);
    if (code == 0) {
        size_t u = 0;
        for (int k = 0; k < segments; k++)
            for (size_t i = 0; i < count[k]; i++) c->row[u++] = base[k] + i * dim;
        code = check_finite(c, err);
    }
    if (code < 0) {
        cloud_close(c);
        return code;
    }
    find_mean(c);
    find_squares(c);
    return 0;
}

void cloud_close(Cloud *c) {
    free(c->row);
    free(c->mean);
    free(c->square);
    free(c->cache);
    free(c->block);
    free(c->scratch);
    free(c->loaded);
    *c = (Cloud){0};
}
