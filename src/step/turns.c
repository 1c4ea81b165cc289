/* Turns: cores and the order of scoring, shared by the prompts of one update. See turns.h. */
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

int turns_take(Turns *t, int n) {
    pthread_mutex_lock(&t->lock);
    const int index = t->taken < n && !t->failed ? t->taken++ : -1;
    pthread_mutex_unlock(&t->lock);
    return index;
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

/* Waits until *count is `index`; true while no prompt has failed. */
static bool wait_for(Turns *t, const int *count, int index) {
    pthread_mutex_lock(&t->lock);
    while (*count != index) pthread_cond_wait(&t->changed, &t->lock);
    const bool good = !t->failed;
    pthread_mutex_unlock(&t->lock);
    return good;
}

static void advance(Turns *t, int *count, bool failed) {
    pthread_mutex_lock(&t->lock);
    ++*count;
    t->failed = t->failed || failed;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

bool turns_score(Turns *t, int index) { return wait_for(t, &t->turn, index); }
void turns_pass(Turns *t, bool failed) { advance(t, &t->turn, failed); }
void turns_add(Turns *t, int index) { wait_for(t, &t->added, index); }
void turns_added(Turns *t, bool failed) { advance(t, &t->added, failed); }
