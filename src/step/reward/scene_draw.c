/* Drawing a scene: each shape is filled at four times the size, averaged over 4 x 4 cells into a coverage, and laid
 * over what is there: image = (1 - a) image + a color.
 *
 * Fills follow the rules of the library that drew the embedded generator's training pictures, so that pictures agree to
 * the last bit: whole-number corners (fractions cut off), spans with both ends included, ellipses that take, row by
 * row, the grid point nearest to the curve. */
#include <math.h>
#include <string.h>

#include "step/reward/scene_internal.h"
#include "step/reward/scene_world.h"

enum { FINE = 4, FINE_SIDE = SCENE_SIDE * FINE, MOST_CORNERS = 40 };

typedef struct Canvas {
    int width, height;
    uint8_t pixel[FINE_SIDE * FINE_SIDE]; /* [height,width], 0 or 255 */
} Canvas;

static void span(Canvas *c, int from, int to, int y, uint8_t value) {
    if (y < 0 || y >= c->height || from >= c->width || to < 0) return;
    if (from < 0) from = 0;
    if (to >= c->width) to = c->width - 1;
    if (from <= to) memset(c->pixel + y * c->width + from, value, (size_t)(to - from + 1));
}

/* ---- ellipses, in half pixels round the centre of a box of a x b ---- */
static int64_t off_curve(int64_t a, int64_t b, int64_t x, int64_t y) {
    const int64_t d = a * a * y * y + b * b * x * x - a * a * b * b;
    return d < 0 ? -d : d;
}

static void mirrored_rows(Canvas *c, int left, int top, int a, int b, int x, int y, uint8_t value) {
    span(c, left + (a - x) / 2, left + (a + x) / 2, top + (b - y) / 2, value);
    span(c, left + (a - x) / 2, left + (a + x) / 2, top + (b + y) / 2, value);
}

/* From the rightmost point of the lower right quarter to its lowest: straight down, diagonally or to the left,
 * whichever stays nearest to the curve. The first point of a row is its widest. */
static void fill_ellipse(Canvas *c, double cx, double cy, double radius, uint8_t value) {
    const int left = (int)(cx - radius), top = (int)(cy - radius);
    const int a = (int)(cx + radius) - left, b = (int)(cy + radius) - top;
    if (a < 0 || b < 0) return;
    int x = a, y = b % 2;
    mirrored_rows(c, left, top, a, b, x, y, value);
    while (x != a % 2 || y != b) {
        const int64_t down = off_curve(a, b, x, y + 2), both = off_curve(a, b, x - 2, y + 2),
                      across = off_curve(a, b, x - 2, y);
        const bool diagonal = x > 1 && both<down, flat = x> 1 && across < (diagonal ? both : down);
        if (diagonal || flat) x -= 2;
        if (flat) continue;
        y += 2;
        mirrored_rows(c, left, top, a, b, x, y, value);
    }
}

/* ---- polygons ---- */
typedef struct Edge {
    int x, y, low, high; /* where it starts; its rows */
    float slope;         /* columns per row */
} Edge;

static float column(const Edge *e, int row) { return (float)(row - e->y) * e->slope + (float)e->x; }
static int nearest_up(float x) { return (int)(x >= 0 ? floor((double)(x + 0.5f)) : -floor((double)(fabsf(x) + 0.5f))); }
static int nearest_down(float x) { return (int)(x >= 0 ? ceil((double)(x - 0.5f)) : -ceil((double)(fabsf(x) - 0.5f))); }

static bool ends_at(const Edge *e, int row) { return e->slope != 0 && (row == e->low || row == e->high); }

/* A corner whose two edges run off to one side by more than a column a row would stand apart from the rest: it moves
 * next to where they are in the row beside it. */
static float corner(const Edge *edge, int i, int row) {
    const Edge *own = &edge[i];
    const float x = column(own, row);
    const int beside = row == own->high ? row - 1 : row + 1;
    for (int k = 0; ends_at(own, row) && k < i; k++) {
        const Edge *other = &edge[k];
        if (!ends_at(other, row) || roundf(x) != roundf(column(other, row))) continue;
        if (beside < other->low || beside > other->high) continue;
        const float p = column(own, beside), q = column(other, beside);
        if (x > p + 1 && x > q + 1) return roundf(fmaxf(p, q)) + 1;
        if (x < p - 1 && x < q - 1) return roundf(fminf(p, q)) - 1;
        return x;
    }
    return x;
}

static void insert(float *x, int *n, float value) {
    int at = (*n)++;
    for (; at > 0 && x[at - 1] > value; at--) x[at] = x[at - 1];
    x[at] = value;
}

/* Every row is filled between its crossings, taken in pairs. An edge that ends above the last row counts twice there,
 * so that the row belongs to what is above as well as to what is below. */
static void fill_rows(Canvas *c, const Edge *edge, int edges, int low, int high, uint8_t value) {
    for (int row = low < 0 ? 0 : low; row <= high && row <= c->height; row++) {
        float x[2 * MOST_CORNERS];
        int n = 0;
        for (int i = 0; i < edges; i++) {
            if (row < edge[i].low || row > edge[i].high) continue;
            const bool twice = row == edge[i].high && row < (high < c->height ? high : c->height);
            const float at = twice ? column(&edge[i], row) : corner(edge, i, row);
            insert(x, &n, at);
            if (twice) insert(x, &n, at);
        }
        for (int i = 1; i < n; i += 2) span(c, nearest_up(x[i - 1]), nearest_down(x[i]), row, value);
    }
}

static void fill_polygon(Canvas *c, const double (*at)[2], int n, uint8_t value) {
    Edge edge[MOST_CORNERS];
    int edges = 0, low = c->height - 1, high = 0;
    for (int i = 0; i < n; i++) {
        const double *p = at[i], *q = at[(i + 1) % n];
        const int x = (int)p[0], y = (int)p[1], to_x = (int)q[0], to_y = (int)q[1];
        const int first = y < to_y ? y : to_y, last = y < to_y ? to_y : y;
        if (first < low) low = first;
        if (last > high) high = last;
        if (first == last)
            span(c, x < to_x ? x : to_x, x < to_x ? to_x : x, y, value);
        else
            edge[edges++] = (Edge){x, y, first, last, (float)(to_x - x) / (float)(to_y - y)};
    }
    fill_rows(c, edge, edges, low, high, value);
}

/* ---- shapes of radius 1 round the origin, y down ---- */
static const double SQUARE[][2] = {{-.86, -.86}, {.86, -.86}, {.86, .86}, {-.86, .86}};
static const double TRIANGLE[][2] = {{0, -1}, {1, .82}, {-1, .82}};
static const double CROSS[][2] = {{-.34, -1}, {.34, -1}, {.34, -.34}, {1, -.34}, {1, .34},   {.34, .34},
                                  {.34, 1},   {-.34, 1}, {-.34, .34}, {-1, .34}, {-1, -.34}, {-.34, -.34}};

static int star(double at[MOST_CORNERS][2]) {
    for (int k = 0; k < 10; k++) {
        const double length = k % 2 ? .47 : 1.12;
        at[k][0] = length * sin(M_PI * k / 5);
        at[k][1] = -length * cos(M_PI * k / 5) + .06;
    }
    return 10;
}

static int heart(double at[MOST_CORNERS][2]) {
    for (int k = 0; k < 40; k++) {
        const double t = 2 * M_PI * k / 40;
        at[k][0] = 16 * pow(sin(t), 3) / 16.5;
        at[k][1] = -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t) + 2.3) / 16;
    }
    return 40;
}

static int corners(const char *shape, double at[MOST_CORNERS][2]) {
    const double(*given)[2] = CROSS;
    int n = 12;
    if (strcmp(shape, "star") == 0) return star(at);
    if (strcmp(shape, "heart") == 0) return heart(at);
    if (strcmp(shape, "square") == 0) given = SQUARE, n = 4;
    if (strcmp(shape, "triangle") == 0) given = TRIANGLE, n = 3;
    memcpy(at, given, (size_t)n * sizeof *at);
    return n;
}

static void fill_shape(Canvas *c, const char *shape, double x, double y, double r) {
    if (strcmp(shape, "circle") == 0) {
        fill_ellipse(c, x, y, r * .97, 255);
    } else if (strcmp(shape, "ring") == 0) {
        fill_ellipse(c, x, y, r, 255);
        fill_ellipse(c, x, y, r * .54, 0);
    } else if (strcmp(shape, "moon") == 0) {
        fill_ellipse(c, x - r * .12, y, r, 255);
        fill_ellipse(c, x + r * .38, y - r * .12, r * .80, 0);
    } else {
        double at[MOST_CORNERS][2];
        const int n = corners(shape, at);
        for (int i = 0; i < n; i++) at[i][0] = x + r * at[i][0], at[i][1] = y + r * at[i][1];
        fill_polygon(c, (const double(*)[2])at, n, 255);
    }
}

/* ---- pictures ---- */
static float coverage(const Canvas *c, int x, int y) {
    unsigned sum = FINE * FINE / 2; /* to the nearest eighth bit, as the cells are averaged in whole numbers */
    for (int v = 0; v < FINE; v++)
        for (int u = 0; u < FINE; u++) sum += c->pixel[(FINE * y + v) * c->width + FINE * x + u];
    return (float)(sum / (FINE * FINE)) / 255.0f;
}

static float clamped(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static int bounded(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

/* Only a window round the object is drawn; coverage is 0 elsewhere. */
static void lay_over(const SceneSprite *s, Canvas *c, float *image) {
    const double reach = 1.25 * s->r + 2;
    const int x0 = bounded((int)(s->x - reach), 0, SCENE_SIDE), x1 = bounded((int)(s->x + reach) + 1, x0, SCENE_SIDE);
    const int y0 = bounded((int)(s->y - reach), 0, SCENE_SIDE), y1 = bounded((int)(s->y + reach) + 1, y0, SCENE_SIDE);
    c->width = (x1 - x0) * FINE;
    c->height = (y1 - y0) * FINE;
    memset(c->pixel, 0, (size_t)c->width * (size_t)c->height);
    fill_shape(c, SCENE_SHAPE_NAMES[s->shape], (s->x - x0) * FINE, (s->y - y0) * FINE, s->r * FINE);
    float color[3];
    for (int k = 0; k < 3; k++)
        color[k] = clamped(s->color[k] * (float)(1 + s->shade) + (float)(fmax(s->shade, 0) * .10));
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const float a = coverage(c, x - x0, y - y0);
            float *p = image + (y * SCENE_SIDE + x) * 3;
            for (int k = 0; k < 3; k++) p[k] = p[k] * (1 - a) + color[k] * a;
        }
}

void scene_draw(const Scene *s, float *image) {
    Canvas canvas;
    for (int i = 0; i < SCENE_SIDE * SCENE_SIDE * 3; i++) image[i] = s->background[i % 3];
    for (int i = 0; i < s->count; i++) lay_over(&s->sprite[i], &canvas, image);
    for (int i = 0; i < SCENE_SIDE * SCENE_SIDE * 3; i++) image[i] = clamped(image[i]);
}

int scene_planes(const SceneTask *task, const float *noise, bool unreliable, float *planes, Error *err) {
    enum { PLANE = SCENE_SIDE * SCENE_SIDE };
    float picture[PLANE * 3];
    Scene scene;
    TRY(scene_from_noise(task, noise, unreliable, &scene, err));
    scene_draw(&scene, picture);
    for (int i = 0; i < PLANE; i++)
        for (int k = 0; k < 3; k++) planes[k * PLANE + i] = 2 * picture[i * 3 + k] - 1;
    return 0;
}
