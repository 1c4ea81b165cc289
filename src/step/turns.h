/* Turns: prompts that are on their way at the same time compute on a few cores and are scored one after another.
 *
 *     turns_compute -> (draw) -> turns_score -> (score) -> turns_compute -> (learn) -> turns_rest
 *
 * While one prompt waits for its reward, its core belongs to another. Scoring keeps the order of the prompts, so that
 * no outcome depends on which was drawn first. */
#ifndef DRPO_STEP_TURNS_H
#define DRPO_STEP_TURNS_H

#include <pthread.h>
#include <stdbool.h>

typedef struct Turns {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int cores; /* free ones */
    int turn;  /* of the prompt that may be scored */
    bool failed;
} Turns;

void turns_open(Turns *t, int cores);
void turns_close(Turns *t);
/* Waits for a core, and gives it back. */
void turns_compute(Turns *t);
void turns_rest(Turns *t);
/* Waits until all prompts before `index` are scored; false when one of them failed. */
bool turns_score(Turns *t, int index);
/* The next one's turn, which must always come. */
void turns_pass(Turns *t, bool failed);

#endif
