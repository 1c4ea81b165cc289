/* Bodies of the drift's inner loops, included once per instruction set by drift_kernels.c.
 *
 * Set before: KERNEL(name), TARGET (function attribute), BYTES (vector length), DOTS_VECTORS, MIX_ROWS: the register
 * tiles; LARGER and SMALLER of two vectors of doubles. No include guard on purpose. */

typedef double KERNEL(doubles) __attribute__((vector_size(BYTES), aligned(8), may_alias));
typedef long long KERNEL(longs) __attribute__((vector_size(BYTES)));
typedef float KERNEL(floats) __attribute__((vector_size(BYTES)));
#define LANES (BYTES / sizeof(double))
#define DOUBLES(pointer) (*(const KERNEL(doubles) *)(pointer))
#define INLINE TARGET __attribute__((always_inline)) static inline

/* ---- exponential ---- */

/* exp(x) within 5e-11 relative for x up to 700; below -708 it is that of -708. x = n log 2 + rest: adding 1.5 * 2^52
 * rounds to n and leaves it in the low bits, from where it is added to the exponent of a polynomial in the rest. */
INLINE KERNEL(doubles) KERNEL(exponential)(KERNEL(doubles) x) {
    const KERNEL(doubles) zero = {0}, rounder = zero + 0x1.8p52;
    x = LARGER(x, zero - 708);
    const KERNEL(doubles) shifted = x * 1.4426950408889634 + rounder;
    const KERNEL(doubles) rest = x - (shifted - rounder) * 0.6931471805599453;
    KERNEL(doubles) p = rest * 0.0001977515816990591 + 0.001394819512834555;
    p = p * rest + 0.008333561181663026;
    p = p * rest + 0.04166622525018049;
    p = p * rest + 0.16666665125212837;
    p = p * rest + 0.5000000104598384;
    p = p * rest + 1.0000000002432918;
    p = p * rest + 0.9999999999616516;
    return (KERNEL(doubles))((KERNEL(longs))p + ((KERNEL(longs))shifted << 52));
}

INLINE double KERNEL(total)(KERNEL(doubles) x) {
    double sum = 0;
    for (size_t lane = 0; lane < LANES; lane++) sum += x[lane];
    return sum;
}

INLINE double KERNEL(largest)(KERNEL(doubles) x) {
    double most = x[0];
    for (size_t lane = 1; lane < LANES; lane++) most = x[lane] > most ? x[lane] : most;
    return most;
}

INLINE KERNEL(doubles) KERNEL(logit)(DriftCurve curve, KERNEL(doubles) measure) {
    return measure * (curve.linear + curve.quadratic * measure);
}

/* ---- measures ---- */

/* Packed to [depth][DRIFT_COLUMNS], a tile of 4 rows x DOTS_VECTORS vectors of columns loads nothing twice and needs no
 * sum over lanes. */
TARGET static void KERNEL(dots)(const double *a, const double *b, size_t rows, size_t columns, size_t depth,
                                double *out) {
    enum { STEP = 64, WIDE = DOTS_VECTORS * LANES };
    double packed[STEP * DRIFT_COLUMNS] __attribute__((aligned(64)));
    for (size_t start = 0; start < depth; start += STEP) {
        const size_t steps = start + STEP < depth ? STEP : depth - start;
        for (size_t j = 0; j < DRIFT_COLUMNS; j++)
            for (size_t k = 0; k < steps; k++)
                packed[k * DRIFT_COLUMNS + j] = j < columns ? b[j * DRIFT_DEPTH + start + k] : 0;
        for (size_t i = 0; i < rows; i += 4)
            for (size_t j = 0; j < columns; j += WIDE) {
                KERNEL(doubles) sum[4][DOTS_VECTORS] = {0};
                for (size_t k = 0; k < steps; k++) {
                    UNROLLED
                    for (size_t r = 0; r < 4; r++) {
                        const double x = a[(i + r) * DRIFT_DEPTH + start + k];
                        UNROLLED
                        for (size_t s = 0; s < DOTS_VECTORS; s++)
                            sum[r][s] += x * DOUBLES(packed + k * DRIFT_COLUMNS + j + s * LANES);
                    }
                }
                UNROLLED
                for (size_t r = 0; r < 4; r++) {
                    UNROLLED
                    for (size_t s = 0; s < DOTS_VECTORS; s++)
                        *(KERNEL(doubles) *)(out + (i + r) * DRIFT_COLUMNS + j + s * LANES) += sum[r][s];
                }
            }
    }
}

/* Square root of x >= 1e-8 by Newton's iterations for 1 / sqrt(x) from the exponent's half, and one for the root. */
INLINE KERNEL(doubles) KERNEL(root)(KERNEL(doubles) x) {
    const KERNEL(longs) none = {0};
    const KERNEL(doubles) half = x * 0.5;
    KERNEL(doubles) y = (KERNEL(doubles))(none + 0x5FE6EB50C7B537A9 - ((KERNEL(longs))x >> 1));
    UNROLLED
    for (int k = 0; k < 3; k++) y = y * (1.5 - half * y * y);
    const KERNEL(doubles) root = x * y;
    return root + 0.5 * y * (x - root * root);
}

TARGET static void KERNEL(distances)(const double *product, const double *row_square, const double *column_square,
                                     size_t rows, double *tile, double *margin) {
    const KERNEL(doubles) zero = {0};
    for (size_t i = 0; i < rows; i++) {
        KERNEL(doubles) least = zero + DRIFT_FAR;
        for (size_t u = 0; u < DRIFT_COLUMNS; u += LANES) {
            const KERNEL(doubles) norms = row_square[i] + DOUBLES(column_square + u);
            const KERNEL(doubles) square = norms - 2 * DOUBLES(product + i * DRIFT_COLUMNS + u);
            least = SMALLER(least, square - DRIFT_NEAR * norms);
            *(KERNEL(doubles) *)(tile + i * DRIFT_TILE + u) = KERNEL(root)(LARGER(square, zero + 1e-8));
        }
        margin[i] = -KERNEL(largest)(-least);
    }
}

TARGET static double KERNEL(weigh)(const double *tile, size_t rows, const double *weight) {
    KERNEL(doubles) sum = {0};
    for (size_t i = 0; i < rows; i++) {
        KERNEL(doubles) row = {0};
        for (size_t u = 0; u < DRIFT_COLUMNS; u += LANES)
            row += DOUBLES(weight + u) * DOUBLES(tile + i * DRIFT_TILE + u);
        sum += row;
    }
    return KERNEL(total)(sum);
}

/* ---- log-sum-exp: the largest logit of a block is that of its smallest measure ---- */

TARGET static void KERNEL(columns)(const double *tile, size_t rows, const DriftCurve *curve, int curves, size_t stride,
                                   double *max, double *sum) {
    for (size_t u = 0; u < DRIFT_COLUMNS; u += LANES) {
        KERNEL(doubles) least = DOUBLES(tile + u);
        for (size_t i = 1; i < rows; i++) least = SMALLER(least, DOUBLES(tile + i * DRIFT_TILE + u));
        for (int r = 0; r < curves; r++) {
            double *to_max = max + (size_t)r * stride + u, *to_sum = sum + (size_t)r * stride + u;
            const KERNEL(doubles) old = DOUBLES(to_max), peak = KERNEL(logit)(curve[r], least);
            if (KERNEL(largest)(peak - old) < DRIFT_NEGLIGIBLE) continue;
            const KERNEL(doubles) most = LARGER(old, peak);
            KERNEL(doubles) total = DOUBLES(to_sum) * KERNEL(exponential)(old - most);
            for (size_t i = 0; i < rows; i++)
                total += KERNEL(exponential)(KERNEL(logit)(curve[r], DOUBLES(tile + i * DRIFT_TILE + u)) - most);
            *(KERNEL(doubles) *)to_max = most;
            *(KERNEL(doubles) *)to_sum = total;
        }
    }
}

TARGET static void KERNEL(rows)(const double *tile, size_t rows, const double *count, const DriftCurve *curve,
                                int curves, double *least, double *sum) {
    for (size_t i = 0; i < rows; i++) {
        const double *measure = tile + i * DRIFT_TILE;
        KERNEL(doubles) nearest = DOUBLES(measure);
        for (size_t u = LANES; u < DRIFT_COLUMNS; u += LANES) nearest = SMALLER(nearest, DOUBLES(measure + u));
        least[i] = -KERNEL(largest)(-nearest);
        for (int r = 0; r < curves; r++) {
            const KERNEL(doubles) none = {0}, far = none - 1e300;
            const KERNEL(doubles) peak = LARGER(KERNEL(logit)(curve[r], none + least[i]), far); /* not -inf - -inf */
            KERNEL(doubles) total = none;
            UNROLLED
            for (size_t u = 0; u < DRIFT_COLUMNS; u += LANES)
                total += DOUBLES(count + u) * KERNEL(exponential)(KERNEL(logit)(curve[r], DOUBLES(measure + u)) - peak);
            sum[(size_t)r * DRIFT_ROWS + i] = KERNEL(total)(total);
        }
    }
}

TARGET static void KERNEL(merge)(const double *least, const double *part, size_t count, DriftCurve curve, double *max,
                                 double *sum) {
    for (size_t i = 0; i < count; i += LANES) {
        const KERNEL(doubles) old = DOUBLES(max + i), peak = KERNEL(logit)(curve, DOUBLES(least + i));
        const KERNEL(doubles) most = LARGER(old, peak);
        *(KERNEL(doubles) *)(max + i) = most;
        *(KERNEL(doubles) *)(sum + i) =
            DOUBLES(sum + i) * KERNEL(exponential)(old - most) + DOUBLES(part + i) * KERNEL(exponential)(peak - most);
    }
}

/* ---- affinities ---- */

TARGET static void KERNEL(strongest)(const double *tile, size_t rows, const double *half, DriftCurve curve,
                                     double *out) {
    for (size_t i = 0; i < rows; i++) {
        KERNEL(doubles) most = KERNEL(logit)(curve, DOUBLES(tile + i * DRIFT_TILE)) - DOUBLES(half);
        UNROLLED
        for (size_t u = LANES; u < DRIFT_COLUMNS; u += LANES) {
            const KERNEL(doubles) value = KERNEL(logit)(curve, DOUBLES(tile + i * DRIFT_TILE + u)) - DOUBLES(half + u);
            most = LARGER(most, value);
        }
        out[i] = KERNEL(largest)(most);
    }
}

TARGET static void KERNEL(affinities)(const double *measure, size_t count, DriftCurve curve, double half_row,
                                      const double *half, const double *open, const DriftWeights *w, double *pull,
                                      double *push, double sums[2]) {
    const KERNEL(doubles) floor = (KERNEL(doubles)){0} + DRIFT_FLOOR;
    KERNEL(doubles) attract = {0}, repel = {0};
    for (size_t u = 0; u < count; u += LANES) {
        const KERNEL(doubles) e =
            KERNEL(exponential)(KERNEL(logit)(curve, DOUBLES(measure + u)) - half_row - DOUBLES(half + u));
        const KERNEL(doubles) first = LARGER(e, floor), second = LARGER(e * DOUBLES(open + u), floor);
        const KERNEL(doubles) to = first * DOUBLES(w->positive[0] + u) + second * DOUBLES(w->positive[1] + u);
        const KERNEL(doubles) away = first * DOUBLES(w->negative[0] + u) + second * DOUBLES(w->negative[1] + u);
        *(KERNEL(doubles) *)(pull + u) = to;
        *(KERNEL(doubles) *)(push + u) = away;
        attract += to;
        repel += away;
    }
    sums[0] = KERNEL(total)(attract);
    sums[1] = KERNEL(total)(repel);
}

TARGET static double KERNEL(coefficients)(const double *pull, const double *push, size_t count, double attract,
                                          double repel, float *out) {
    typedef float halves __attribute__((vector_size(BYTES / 2), aligned(4), may_alias));
    KERNEL(doubles) sum = {0};
    for (size_t u = 0; u < count; u += LANES) {
        const KERNEL(doubles) value = DOUBLES(pull + u) * repel - DOUBLES(push + u) * attract;
        const halves stored = __builtin_convertvector(value, halves);
        *(halves *)(out + u) = stored;
        sum += __builtin_convertvector(stored, KERNEL(doubles));
    }
    return KERNEL(total)(sum);
}

/* ---- weighted sums of points ---- */

TARGET static void KERNEL(mix)(const float *c, size_t stride, size_t rows, const float *points, size_t count,
                               size_t width, float *out) {
    enum { FLOATS = BYTES / sizeof(float) };
    for (size_t first = 0; first < count; first += DRIFT_DEPTH) {
        const size_t last = first + DRIFT_DEPTH < count ? first + DRIFT_DEPTH : count;
        for (size_t k = 0; k < width; k += 2 * FLOATS) {
            const float *panel = points + k / DRIFT_PANEL * count * DRIFT_PANEL + k % DRIFT_PANEL;
            for (size_t i = 0; i < rows; i += MIX_ROWS) {
                KERNEL(floats) sum[MIX_ROWS][2] = {0};
                for (size_t j = first; j < last; j++) {
                    KERNEL(floats) t[2];
                    memcpy(&t[0], panel + j * DRIFT_PANEL, BYTES);
                    memcpy(&t[1], panel + j * DRIFT_PANEL + FLOATS, BYTES);
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
                    memcpy(&old[1], to + FLOATS, BYTES);
                    old[0] += sum[r][0];
                    old[1] += sum[r][1];
                    memcpy(to, &old[0], BYTES);
                    memcpy(to + FLOATS, &old[1], BYTES);
                }
            }
        }
    }
}

TARGET static void KERNEL(drag)(const float *to, const float *from, double weight, size_t dim, double *out) {
    for (size_t k = 0; k < dim; k++) out[k] += weight * ((double)to[k] - (double)from[k]);
}

/* ---- softmax of one row ---- */

TARGET static void KERNEL(soften)(const double *measure, const double *shift, size_t count, DriftCurve curve,
                                  double sign, double *part, double *coefficient) {
    const KERNEL(doubles) none = {0}, far = none - 1e300; /* not -inf - -inf */
    KERNEL(doubles) most = far, sum = none;
    for (size_t u = 0; u < count; u += LANES) {
        const KERNEL(doubles) value = LARGER(KERNEL(logit)(curve, DOUBLES(measure + u)) + DOUBLES(shift + u), far);
        *(KERNEL(doubles) *)(part + u) = value;
        most = LARGER(most, value);
    }
    const double peak = KERNEL(largest)(most);
    for (size_t u = 0; u < count; u += LANES) {
        const KERNEL(doubles) e = KERNEL(exponential)(DOUBLES(part + u) - peak);
        *(KERNEL(doubles) *)(part + u) = e;
        sum += e;
    }
    const double share = sign / KERNEL(total)(sum);
    for (size_t u = 0; u < count; u += LANES) *(KERNEL(doubles) *)(coefficient + u) += share * DOUBLES(part + u);
}

#undef LANES
#undef DOUBLES
#undef INLINE
