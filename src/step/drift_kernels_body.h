/* Bodies of the two drift products, included once per instruction set by drift_kernels.c.
 *
 * Set before: KERNEL(name), TARGET (function attribute), BYTES (vector length), DOTS_COLUMNS, MIX_ROWS: the register
 * tile. No include guard on purpose. */

typedef double KERNEL(doubles) __attribute__((vector_size(BYTES)));
typedef float KERNEL(floats) __attribute__((vector_size(BYTES)));

/* Both operands run along k, so a tile of 4 x DOTS_COLUMNS pairs loads each vector once per 4 uses and packs nothing.
 */
TARGET static void KERNEL(dots)(const double *a, const double *b, size_t rows, size_t columns, size_t depth,
                                double *out) {
    enum { LANES = BYTES / sizeof(double) };
    for (size_t j = 0; j < columns; j += DOTS_COLUMNS)
        for (size_t i = 0; i < rows; i += 4) {
            KERNEL(doubles) sum[4][DOTS_COLUMNS] = {0};
            for (size_t k = 0; k < depth; k += LANES) {
                KERNEL(doubles) x[4], t[DOTS_COLUMNS];
                UNROLLED
                for (int r = 0; r < 4; r++) memcpy(&x[r], a + (i + r) * DRIFT_DEPTH + k, BYTES);
                UNROLLED
                for (int s = 0; s < DOTS_COLUMNS; s++) memcpy(&t[s], b + (j + s) * DRIFT_DEPTH + k, BYTES);
                UNROLLED
                for (int r = 0; r < 4; r++) {
                    UNROLLED
                    for (int s = 0; s < DOTS_COLUMNS; s++) sum[r][s] += x[r] * t[s];
                }
            }
            UNROLLED
            for (int r = 0; r < 4; r++) {
                UNROLLED
                for (int s = 0; s < DOTS_COLUMNS; s++) {
                    double total = 0;
                    for (int lane = 0; lane < LANES; lane++) total += sum[r][s][lane];
                    out[(i + r) * DRIFT_COLUMNS + j + s] += total;
                }
            }
        }
}

TARGET static void KERNEL(mix)(const float *c, size_t stride, size_t rows, const float *points, size_t count,
                               size_t width, float *out) {
    enum { LANES = BYTES / sizeof(float) };
    for (size_t first = 0; first < count; first += DRIFT_DEPTH) {
        const size_t last = first + DRIFT_DEPTH < count ? first + DRIFT_DEPTH : count;
        for (size_t k = 0; k < width; k += 2 * LANES) {
            const float *panel = points + k / DRIFT_PANEL * count * DRIFT_PANEL + k % DRIFT_PANEL;
            for (size_t i = 0; i < rows; i += MIX_ROWS) {
                KERNEL(floats) sum[MIX_ROWS][2] = {0};
                for (size_t j = first; j < last; j++) {
                    KERNEL(floats) t[2];
                    memcpy(&t[0], panel + j * DRIFT_PANEL, BYTES);
                    memcpy(&t[1], panel + j * DRIFT_PANEL + LANES, BYTES);
                    UNROLLED
                    for (int r = 0; r < MIX_ROWS; r++) {
                        const float weight = c[(i + r) * stride + j];
                        sum[r][0] += weight * t[0];
                        sum[r][1] += weight * t[1];
                    }
                }
                UNROLLED
                for (int r = 0; r < MIX_ROWS; r++) {
                    KERNEL(floats) old[2];
                    float *to = out + (i + r) * DRIFT_WIDTH + k;
                    memcpy(&old[0], to, BYTES);
                    memcpy(&old[1], to + LANES, BYTES);
                    old[0] += sum[r][0];
                    old[1] += sum[r][1];
                    memcpy(to, &old[0], BYTES);
                    memcpy(to + LANES, &old[1], BYTES);
                }
            }
        }
    }
}
