/* Threads: how many to use when nobody says. */
#ifndef DRPO_BASE_THREADS_H
#define DRPO_BASE_THREADS_H

/* OMP_NUM_THREADS when it is set to a number, else the cores this process may run on; at least 1. */
int threads_default(void);

#endif
