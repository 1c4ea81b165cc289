/* Agreement of two rankings of one prompt's candidates. Beside an update that asks for it; nothing is learned from it.
 */
#include "step/agreement.h"

#include <math.h>

static int order(double a, double b) { return (a > b) - (a < b); }

double agreement_tau(const double *x, const double *y, int n) {
    double balance = 0, untied_x = 0, untied_y = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) {
            const int a = order(x[i], x[k]), b = order(y[i], y[k]);
            balance += a * b;
            untied_x += a != 0;
            untied_y += b != 0;
        }
    return untied_x > 0 && untied_y > 0 ? balance / sqrt(untied_x * untied_y) : NAN;
}

static int common(const int *a, const int *b, int n) {
    int found = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) found += a[i] == b[k];
    return found;
}

/* Share of what the full decoder's pictures would have chosen on each side. To skip the prompt is a choice too. */
static double shared_choice(const Selection *a, const Selection *b) {
    if (a->skip || b->skip) return a->skip == b->skip;
    const int both = common(a->pos, b->pos, a->n_pos) + common(a->neg, b->neg, a->n_neg);
    return (double)both / (a->n_pos + a->n_neg);
}

static double shared_verdicts(const double *small, const double *full, int count) {
    int same = 0;
    for (int i = 0; i < count; i++) same += (small[i] >= 0.5) == (full[i] >= 0.5);
    return (double)same / count;
}

void agreement_add(Agreement *sum, const Ranking *small, const Ranking *full, int count) {
    const double share = small->choice && full->choice ? shared_choice(small->choice, full->choice)
                                                       : shared_verdicts(small->scores, full->scores, count);
    const double tau = agreement_tau(small->scores, full->scores, count);
    sum->prompts++;
    sum->chosen += share;
    sum->same += share == 1;
    if (isnan(tau)) return;
    sum->ranked++;
    sum->tau += tau;
}

void agreement_join(Agreement *total, const Agreement *one) {
    total->prompts += one->prompts;
    total->ranked += one->ranked;
    total->tau += one->tau;
    total->chosen += one->chosen;
    total->same += one->same;
}

void agreement_finish(Agreement *a) {
    if (a->prompts == 0) return;
    a->tau = a->ranked ? a->tau / a->ranked : NAN;
    a->chosen /= a->prompts;
    a->same /= a->prompts;
}
