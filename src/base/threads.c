/* Threads: how many to use when nobody says. See threads.h. */
#include "base/threads.h"

#include <sched.h>
#include <stdlib.h>

enum { MOST_THREADS = 1024 };

/* "4", or "4,2" for nested regions, whose first number is the one that counts; 0: not set or no number. The variable is
 * read here because the OpenMP library forgets it once a backend has set its own number. */
static int from_environment(void) {
    const char *text = getenv("OMP_NUM_THREADS");
    char *end = NULL;
    long n = text ? strtol(text, &end, 10) : 0;
    if (!text || end == text || (*end && *end != ',' && *end != ' ') || n < 1) return 0;
    return n < MOST_THREADS ? (int)n : MOST_THREADS;
}

static int usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

int threads_default(void) {
    int n = from_environment();
    return n ? n : usable_cores();
}
