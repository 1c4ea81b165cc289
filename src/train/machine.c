/* Machine: read from /proc and from the limits of the control group. See machine.h. */
#include "train/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_LENGTH = 8192 };

/* `word` stands in the list of flags as a whole word. */
static bool has_flag(const char *flags, const char *word) {
    size_t n = strlen(word);
    for (const char *at = strstr(flags, word); at; at = strstr(at + n, word))
        if (at > flags && strchr(" \t:", at[-1]) && strchr(" \n", at[n])) return true;
    return false;
}

static void read_flags(Machine *m, const char *flags) {
    m->avx2 = has_flag(flags, "avx2") && has_flag(flags, "fma");
    m->avx512 = has_flag(flags, "avx512f") && has_flag(flags, "avx512bw") && has_flag(flags, "avx512dq") &&
                has_flag(flags, "avx512vl");
    m->bf16 = has_flag(flags, "avx512_bf16");
    m->amx = has_flag(flags, "amx_bf16");
}

static void read_cpu(Machine *m) {
    char *line = malloc(LINE_LENGTH);
    FILE *f = line ? fopen("/proc/cpuinfo", "re") : NULL;
    while (f && fgets(line, LINE_LENGTH, f)) {
        const char *value = strchr(line, ':');
        if (value && strncmp(line, "model name", 10) == 0 && !m->cpu[0]) {
            snprintf(m->cpu, sizeof m->cpu, "%s", value + 1 + strspn(value + 1, " "));
            m->cpu[strcspn(m->cpu, "\n")] = 0;
        }
        if (value && strncmp(line, "flags", 5) == 0) {
            read_flags(m, line);
            break;
        }
    }
    if (f) fclose(f);
    free(line);
}

/* A single number in a file; 0: none, such as "max". */
static size_t read_number(const char *path) {
    unsigned long long value = 0;
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%llu", &value) != 1) value = 0;
    fclose(f);
    return (size_t)value;
}

static void read_memory(Machine *m) {
    char line[256];
    unsigned long long kib;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %llu", &kib) == 1) m->memory = (size_t)kib << 10;
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) m->available = (size_t)kib << 10;
    }
    if (f) fclose(f);
    size_t limit = read_number("/sys/fs/cgroup/memory.max"), used = read_number("/sys/fs/cgroup/memory.current");
    if (limit && limit < m->memory) m->memory = limit;
    if (limit && used < limit && limit - used < m->available) m->available = limit - used;
}

void machine_read(Machine *m) {
    *m = (Machine){0};
    read_cpu(m);
    read_memory(m);
}
