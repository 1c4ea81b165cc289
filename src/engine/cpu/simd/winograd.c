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

/* One input channel, W output channels from `w` (out_stride apart): 36 vectors, xi_stride apart. */
INLINE void weight_vector(float *u, size_t xi_stride, const float *w, size_t out_stride, size_t n, bool flip) {
    float lanes[9][W] __attribute__((aligned(64))) = {{0}};
    for (size_t o = 0; o < n; o++)
        for (int k = 0; k < 9; k++) lanes[flip ? 8 - k : k][o] = w[o * out_stride + (size_t)k];
    vf g[9], half[18], full[36];
    for (int k = 0; k < 9; k++) g[k] = load(lanes[k]);
    for (int c = 0; c < 3; c++) weight_line(half + c, 3, g + c, 3);            /* [6,3] */
    for (int r = 0; r < 6; r++) weight_line(full + 6 * r, 1, half + 3 * r, 1); /* [6,6] */
    for (int xi = 0; xi < 36; xi++) store(u + (size_t)xi * xi_stride, full[xi]);
}

static void weights(const WinogradWeights *t) {
    for (size_t i = 0; i < t->in; i++) {
        for (size_t o = 0; o < PANEL; o += W) {
            size_t n = o >= t->out ? 0 : t->out - o < W ? t->out - o : W;
            weight_vector(t->u + i * PANEL + o, t->xi_stride, t->w + i * t->in_stride + o * t->out_stride,
                          t->out_stride, n, t->flip);
        }
    }
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

/* Channels [c, c + n) of a tile; pixels outside the image are zero. */
INLINE void input_vector(const WinogradTask *t, const Tile *tile, float *v, size_t xi_stride, size_t c, size_t n) {
    vf x[36], half[36], full[36];
    for (int i = 0; i < 36; i++) {
        int row = tile->row + i / 6 - 1, column = tile->column + i % 6 - 1;
        bool inside = row >= 0 && column >= 0 && row < t->height && column < t->width;
        const float *at =
            tile->x + ((size_t)(inside ? row : 0) * (size_t)t->width + (size_t)(inside ? column : 0)) * t->in + c;
        x[i] = !inside ? (vf){0} : n == W ? load(at) : load_some(at, n);
    }
    for (int j = 0; j < 6; j++) input_line(half + j, x + j, 6);
    for (int i = 0; i < 6; i++) input_line(full + 6 * i, half + 6 * i, 1);
    for (int xi = 0; xi < 36; xi++) {
        if (n == W)
            store(v + (size_t)xi * xi_stride, full[xi]);
        else
            store_some(v + (size_t)xi * xi_stride, full[xi], n);
    }
}

static void input_tiles(const WinogradTask *t) {
    size_t xi_stride = (size_t)t->tiles * t->in;
    for (int i = 0; i < t->tiles; i++) {
        Tile tile = tile_of(t, t->first_tile + i);
        float *v = t->v + (size_t)i * t->in;
        size_t c = 0;
        for (; c + W <= t->in; c += W) input_vector(t, &tile, v + c, xi_stride, c, W);
        if (c < t->in) input_vector(t, &tile, v + c, xi_stride, c, t->in - c);
    }
}

static void products(const WinogradTask *t) {
    size_t m_stride = (size_t)t->tiles * t->slice;
    for (size_t xi = 0; xi < 36; xi++) {
        for (size_t o = 0; o < t->slice; o += PANEL)
            gemm(&(Gemm){.m = t->tiles,
                         .n = (int)(t->slice - o < PANEL ? t->slice - o : PANEL),
                         .k = (int)t->in,
                         .a = t->v + xi * (size_t)t->tiles * t->in,
                         .a_row = t->in,
                         .a_col = 1,
                         .b = t->u + xi * t->u_stride + o * t->in,
                         .b_row = PANEL,
                         .c = t->m + xi * m_stride + o,
                         .c_row = t->slice});
    }
}

/* W channels of a tile from M to the image, with bias, residual and activation. */
INLINE void output_vector(const WinogradTask *t, const Tile *tile, const float *m, size_t xi_stride, size_t c,
                          size_t n) {
    vf x[36], half[24], full[16], bias = {0};
    for (int xi = 0; xi < 36; xi++) x[xi] = load(m + (size_t)xi * xi_stride);
    for (int j = 0; j < 6; j++) output_line(half + j, x + j, 6); /* [4,6] */
    for (int i = 0; i < 4; i++) {
        vf line[6];
        for (int j = 0; j < 6; j++) line[j] = half[6 * i + j];
        output_line(full + 4 * i, line, 1);
    }
    if (t->bias) bias = n == W ? load(t->bias + c) : load_some(t->bias + c, n);
    for (int i = 0; i < 16; i++) {
        int row = tile->row + i / 4, column = tile->column + i % 4;
        if (row >= t->height || column >= t->width) continue;
        size_t at = tile->y + ((size_t)row * (size_t)t->width + (size_t)column) * t->out + c;
        vf y = full[i] + bias;
        if (t->residual) y += n == W ? load(t->residual + at) : load_some(t->residual + at, n);
        if (n == W)
            store(t->y + at, y);
        else
            store_some(t->y + at, y, n);
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

static void convolve(const WinogradTask *t) {
    input_tiles(t);
    products(t);
    output_tiles(t);
}

void PART(winograd)(SimdKernels *k) {
    k->winograd_panel = PANEL;
    k->winograd_weights = weights;
    k->winograd = convolve;
}
