/* Turns: cores and the order of scoring, shared by the prompts of one wave. See turns.h. */
#include "step/turns.h"

void turns_open(Turns *t, int cores) {
    *t = (Turns){.cores = cores};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
}

void turns_close(Turns *t) {
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
}

void turns_compute(Turns *t) {
    pthread_mutex_lock(&t->lock);
    while (t->cores == 0) pthread_cond_wait(&t->changed, &t->lock);
    t->cores--;
    pthread_mutex_unlock(&t->lock);
}

void turns_rest(Turns *t) {
    pthread_mutex_lock(&t->lock);
    t->cores++;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

bool turns_score(Turns *t, int index) {
    pthread_mutex_lock(&t->lock);
    while (t->turn != index) pthread_cond_wait(&t->changed, &t->lock);
    const bool good = !t->failed;
    pthread_mutex_unlock(&t->lock);
    return good;
}

void turns_pass(Turns *t, bool failed) {
    pthread_mutex_lock(&t->lock);
    t->turn++;
    t->failed = t->failed || failed;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}
