/* Time and memory of this process, as the system reports them. */
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
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

double clock_process(void) {
#ifdef __linux__
    char line[1024], *rest = NULL;
    unsigned long long ticks = 0; /* since boot, the 22nd field; the second, a name in brackets, may hold anything */
    FILE *f = fopen("/proc/self/stat", "r");
    if (!f) return 0;
    if (fgets(line, sizeof line, f)) rest = strrchr(line, ')');
    fclose(f);
    if (rest && sscanf(rest + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
                       &ticks) == 1)
        return read_clock(CLOCK_BOOTTIME) - (double)ticks / (double)sysconf(_SC_CLK_TCK);
#endif
    return 0;
}

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
