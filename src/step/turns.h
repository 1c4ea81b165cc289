/* Turns: prompts that are on their way at the same time compute on a few cores and are scored one after another.
 *
 *     turns_take -> turns_compute -> (draw) -> turns_rest -> turns_score -> (score) -> turns_pass
 *                -> turns_compute -> (learn) -> turns_rest -> turns_add -> (add the gradient) -> turns_added
 *
 * While one prompt waits for its reward, its core belongs to another. Scoring and adding keep the order of the prompts,
 * so that no outcome depends on which was drawn first. */
#ifndef DRPO_STEP_TURNS_H
#define DRPO_STEP_TURNS_H

#include <pthread.h>
#include <stdbool.h>

typedef struct Turns {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int cores; /* free ones */
    int taken; /* prompts that somebody has begun */
    int turn;  /* of the prompt that may be scored */
    int added; /* prompts whose gradients are in the sum */
    bool failed;
} Turns;

void turns_open(Turns *t, int cores);
void turns_close(Turns *t);
/* The number of the next of `n` prompts; -1 when all are taken or one has failed. */
int turns_take(Turns *t, int n);
/* Waits for a core, and gives it back. */
void turns_compute(Turns *t);
void turns_rest(Turns *t);
/* Waits until all prompts before `index` are scored; false when one of them failed. */
bool turns_score(Turns *t, int index);
/* The next one's turn, which must always come. */
void turns_pass(Turns *t, bool failed);
/* Waits until all prompts before `index` are added; what follows it must come for every prompt that was taken. */
void turns_add(Turns *t, int index);
void turns_added(Turns *t, bool failed);

#endif
