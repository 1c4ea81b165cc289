/* The drift on its own: points follow it towards one cloud and away from another.
 *
 *     example_drift */
#include <stdio.h>

#include "drpo.h"

enum { N = 8, D = 2, ROUNDS = 40 };

static float mean_distance(const float *x, float px, float py) {
    float sum = 0;
    for (int i = 0; i < N; i++) sum += (x[2 * i] - px) * (x[2 * i] - px) + (x[2 * i + 1] - py) * (x[2 * i + 1] - py);
    return sum / N;
}

int main(void) {
    static const float radii[] = {0.02f, 0.05f, 0.2f};
    static const float liked[] = {3, 3, 3.2f, 2.8f, 2.9f, 3.1f}, disliked[] = {-3, -3, -2.9f, -3.2f, -3.1f, -2.8f};
    drpo_drift_options options = {.radii = radii, .n_radii = 3, .kernel = 0, .w_pos = 3000, .w_neg = 3000};
    float x[N * D], force[N * D];
    for (int i = 0; i < N; i++) {
        x[2 * i] = (float)(i % 4) - 1.5f;
        x[2 * i + 1] = (float)(i / 4) - 0.5f;
    }
    printf("squared distance to the liked points: %.2f before\n", (double)mean_distance(x, 3, 3));
    for (int round = 0; round < ROUNDS; round++) {
        double loss;
        int code = drpo_drift(x, N, liked, 3, disliked, 3, D, &options, force, NULL, &loss);
        if (code < 0) {
            fprintf(stderr, "%s\n", drpo_error_text(code));
            return 1;
        }
        for (int i = 0; i < N * D; i++) x[i] += 0.05f * force[i];
    }
    printf("squared distance to the liked points: %.2f after\n", (double)mean_distance(x, 3, 3));
    return 0;
}
