/* Time and memory of this process, as the system reports them. */
#include "base/clock.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double read_clock(clockid_t which) {
    struct timespec t;
    if (clock_gettime(which, &t) != 0) return 0;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double clock_seconds(void) { return read_clock(CLOCK_MONOTONIC); }

double clock_wall(void) { return read_clock(CLOCK_REALTIME); }

long long memory_peak_bytes(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
    return usage.ru_maxrss;
#else
    return (long long)usage.ru_maxrss * 1024;
#endif
}

long long memory_now_bytes(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    long long total = 0, resident = 0;
    int found = fscanf(f, "%lld %lld", &total, &resident);
    fclose(f);
    return found == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}
