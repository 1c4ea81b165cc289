/* Winograd's F(4x4, 3x3): a 3x3 convolution as 36 matrix products on transformed tiles, a quarter of the
 * multiplications.
 *
 *     y = A^T [ (G w G^T) . (B^T x B) ] A     x: 6x6 inputs, y: 4x4 outputs, the dot sums over input channels
 *
 * Tiles overlap by two pixels. Per place xi of the 36: V [tiles, in] times U [in, out] = M [tiles, out]. U is stored in
 * panels of `panel` output channels: [xi][panel][in][channels of the panel]. */
#include "engine/cpu/simd/elementwise.h"
#include "engine/cpu/simd/gemm.h"
#include "engine/cpu/simd/parts.h"

enum { PANEL = GEMM_VECTORS * W };

/* ---- one-dimensional transforms of vectors that lie `step` apart ---- */

/* y = B^T x */
INLINE void input_line(vf *y, const vf *x, const int step) {
    vf a = x[4 * step] - 4.0f * x[2 * step], b = x[3 * step] - 4.0f * x[step];
    vf c = x[4 * step] - x[2 * step], d = 2.0f * (x[3 * step] - x[step]);
    y[0] = 4.0f * x[0] - 5.0f * x[2 * step] + x[4 * step];
    y[step] = a + b;
    y[2 * step] = a - b;
    y[3 * step] = c + d;
    y[4 * step] = c - d;
    y[5 * step] = 4.0f * x[step] - 5.0f * x[3 * step] + x[5 * step];
}

/* y = A^T x: 6 -> 4 */
INLINE void output_line(vf *y, const vf *x, const int step) {
    vf a = x[step] + x[2 * step], b = x[step] - x[2 * step];
    vf c = x[3 * step] + x[4 * step], d = x[3 * step] - x[4 * step];
    y[0] = x[0] + a + c;
    y[step] = b + 2.0f * d;
    y[2 * step] = a + 4.0f * c;
    y[3 * step] = b + 8.0f * d + x[5 * step];
}

/* y = G x: 3 -> 6 */
INLINE void weight_line(vf *y, const int y_step, const vf *x, const int x_step) {
    vf outer = x[0] + x[2 * x_step], wide = x[0] * (1.0f / 24) + x[2 * x_step] * (1.0f / 6);
    y[0] = x[0] * 0.25f;
    y[y_step] = (outer + x[x_step]) * (-1.0f / 6);
    y[2 * y_step] = (outer - x[x_step]) * (-1.0f / 6);
    y[3 * y_step] = wide + x[x_step] * (1.0f / 12);
    y[4 * y_step] = wide - x[x_step] * (1.0f / 12);
    y[5 * y_step] = x[2 * x_step];
}

/* ---- weights ---- */

enum { TAPS = 9, TAP_ROWS = TAPS > W ? TAPS : W };

/* tap[k]: weight k of n <= W output channels, which lie out_stride apart. Reads W floats of each. */
INLINE void load_taps(vf tap[TAP_ROWS], const float *w, size_t out_stride, size_t n) {
    int k = 0;
    for (; k == 0 || k + W <= TAPS; k += W) {
        UNROLL
        for (int o = 0; o < W; o++) tap[k + o] = (size_t)o < n ? load(w + (size_t)o * out_stride + k) : (vf){0};
        transpose(tap + k);
    }
    for (; k < TAPS; k++) {
        float lanes[W] = {0};
        for (size_t o = 0; o < n; o++) lanes[o] = w[o * out_stride + (size_t)k];
        tap[k] = load(lanes);
    }
}

/* One input channel, n <= W output channels: 36 vectors, xi_stride apart. */
INLINE void weight_vector(float *u, size_t xi_stride, const float *w, size_t out_stride, size_t n, bool flip) {
    vf tap[TAP_ROWS], g[TAPS], half[18];
    load_taps(tap, w, out_stride, n);
    UNROLL
    for (int k = 0; k < TAPS; k++) g[k] = tap[flip ? TAPS - 1 - k : k];
    UNROLL
    for (int c = 0; c < 3; c++) weight_line(half + c, 3, g + c, 3); /* [6,3] */
    UNROLL
    for (int r = 0; r < 6; r++) {
        vf row[6];
        weight_line(row, 1, half + 3 * r, 1);
        UNROLL
        for (int k = 0; k < 6; k++) store(u + (size_t)(6 * r + k) * xi_stride, row[k]);
    }
}

/* Whole vectors apart from the rest, so that loops over lanes unroll. */
INLINE void weights_of(const WinogradWeights *t, const bool flip) {
    for (size_t i = 0; i < t->in; i++) {
        for (size_t o = 0; o < PANEL; o += W) {
            const float *w = t->w + i * t->in_stride + o * t->out_stride;
            float *u = t->u + i * PANEL + o;
            if (o + W <= t->out)
                weight_vector(u, t->xi_stride, w, t->out_stride, W, flip);
            else
                weight_vector(u, t->xi_stride, w, t->out_stride, o < t->out ? t->out - o : 0, flip);
        }
    }
}

static void weights(const WinogradWeights *t) {
    if (t->flip)
        weights_of(t, true);
    else
        weights_of(t, false);
}

/* ---- tiles ---- */
typedef struct Tile {
    int row, column; /* of the first output pixel */
    const float *x;  /* the image */
    size_t y;        /* first float of the output image */
} Tile;

static Tile tile_of(const WinogradTask *t, int64_t index) {
    int64_t across = (t->width + 3) / 4, down = (t->height + 3) / 4, image = index / (across * down);
    int64_t place = index % (across * down), pixels = (int64_t)t->height * t->width;
    return (Tile){(int)(place / across) * 4, (int)(place % across) * 4, t->x + (size_t)(image * pixels) * t->in,
                  (size_t)(image * pixels) * t->out};
}

/* The 36 pixels under a tile; those outside the image are t->zeros, so that no branch is needed per channel. */
static void pixels_of(const WinogradTask *t, const Tile *tile, const float *pixel[36]) {
    for (int i = 0; i < 6; i++) {
        int row = tile->row + i - 1;
        bool inside = row >= 0 && row < t->height;
        const float *line = tile->x + ((ptrdiff_t)row * t->width + tile->column - 1) * (ptrdiff_t)t->in;
        for (int j = 0; j < 6; j++) {
            int column = tile->column + j - 1;
            bool seen = inside && column >= 0 && column < t->width;
            pixel[6 * i + j] = seen ? line + (size_t)j * t->in : t->zeros;
        }
    }
}

/* Channels [c, c + n) of a tile, column by column, then row by row. */
INLINE void input_vector(const float *const pixel[36], float *v, size_t xi_stride, size_t c, size_t n) {
    vf half[36];
    UNROLL
    for (int j = 0; j < 6; j++) {
        vf x[6], y[6];
        UNROLL
        for (int i = 0; i < 6; i++) x[i] = load_part(pixel[6 * i + j] + c, n);
        input_line(y, x, 1);
        UNROLL
        for (int i = 0; i < 6; i++) half[6 * i + j] = y[i];
    }
    UNROLL
    for (int i = 0; i < 6; i++) {
        vf y[6];
        input_line(y, half + 6 * i, 1);
        UNROLL
        for (int j = 0; j < 6; j++) store_part(v + (size_t)(6 * i + j) * xi_stride + c, y[j], n);
    }
}

static void input_tiles(const WinogradTask *t) {
    size_t xi_stride = (size_t)t->tiles * t->part;
    for (int i = 0; i < t->tiles; i++) {
        Tile tile = tile_of(t, t->first_tile + i);
        const float *pixel[36];
        pixels_of(t, &tile, pixel);
        for (int p = 0; p < 36; p++)
            if (pixel[p] != t->zeros) pixel[p] += t->first_in;
        float *v = t->v + (size_t)i * t->part;
        size_t c = 0;
        for (; c + W <= t->part; c += W) input_vector(pixel, v, xi_stride, c, W);
        if (c < t->part) input_vector(pixel, v, xi_stride, c, t->part - c);
    }
}

/* Under a tile of a doubled image lie a b b c c d: y[2] of input_line is (c - 4 b) - (c - 4 b) then. */
static bool is_zero(const WinogradTask *t, size_t xi) { return t->doubled && (xi / 6 == 2 || xi % 6 == 2); }

static void products(const WinogradTask *t) {
    size_t m_stride = (size_t)t->tiles * t->slice;
    for (size_t xi = 0; xi < 36; xi++) {
        if (is_zero(t, xi)) {
            memset(t->m + xi * m_stride, 0, m_stride * sizeof *t->m);
            continue;
        }
        for (size_t o = 0; o < t->slice; o += PANEL)
            gemm(&(Gemm){.m = t->tiles,
                         .n = (int)(t->slice - o < PANEL ? t->slice - o : PANEL),
                         .k = (int)t->part,
                         .a = t->v + xi * (size_t)t->tiles * t->part,
                         .a_row = t->part,
                         .a_col = 1,
                         .b = t->u + xi * t->u_stride + o * t->part,
                         .b_row = PANEL,
                         .c = t->m + xi * m_stride + o,
                         .c_row = t->slice,
                         .add = t->first_in > 0});
    }
}

/* Channels [c, c + n) of a tile from M to the image, with bias and residual. */
INLINE void output_vector(const WinogradTask *t, const Tile *tile, const float *m, size_t xi_stride, size_t c,
                          size_t n) {
    vf half[24], bias = t->bias ? load_part(t->bias + c, n) : (vf){0}; /* half: [4,6] */
    UNROLL
    for (int j = 0; j < 6; j++) {
        vf x[6], y[4];
        UNROLL
        for (int i = 0; i < 6; i++) x[i] = load(m + (size_t)(6 * i + j) * xi_stride);
        output_line(y, x, 1);
        UNROLL
        for (int i = 0; i < 4; i++) half[6 * i + j] = y[i];
    }
    int columns = t->width - tile->column < 4 ? t->width - tile->column : 4;
    for (int i = 0; i < 4 && tile->row + i < t->height; i++) {
        vf y[4];
        output_line(y, half + 6 * i, 1);
        size_t at = tile->y + ((size_t)(tile->row + i) * (size_t)t->width + (size_t)tile->column) * t->out + c;
        for (int j = 0; j < columns; j++, at += t->out) {
            vf sum = y[j] + bias;
            if (t->residual) sum += load_part(t->residual + at, n);
            store_part(t->y + at, sum, n);
        }
    }
}

static void output_tiles(const WinogradTask *t) {
    size_t xi_stride = (size_t)t->tiles * t->slice,
           end = t->first_out + t->slice < t->out ? t->first_out + t->slice : t->out;
    for (int i = 0; i < t->tiles; i++) {
        Tile tile = tile_of(t, t->first_tile + i);
        const float *m = t->m + (size_t)i * t->slice;
        size_t c = t->first_out;
        for (; c + W <= end; c += W, m += W) output_vector(t, &tile, m, xi_stride, c, W);
        if (c < end) output_vector(t, &tile, m, xi_stride, c, end - c);
    }
}

void PART(winograd)(SimdKernels *k) {
    k->winograd_panel = PANEL;
    k->winograd_weights = weights;
    k->winograd_input = input_tiles;
    k->winograd_products = products;
    k->winograd_output = output_tiles;
}
