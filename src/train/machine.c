/* Machine: read from /proc and from the limits of the control group. See machine.h. */
#include "train/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_LENGTH = 8192, PATH_LENGTH = 4096 };

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

/* ---- memory ---- */

/* A single number in a file; 0: none, such as "max". */
static size_t read_number(const char *path) {
    unsigned long long value = 0;
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    if (fscanf(f, "%llu", &value) != 1) value = 0;
    fclose(f);
    return (size_t)value;
}

/* Of the lines "NAME NUMBER", the sum over two names. */
static size_t read_sum(const char *path, const char *one, const char *other) {
    char name[64];
    unsigned long long value, sum = 0;
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%63s %llu", name, &value) == 2)
        if (strcmp(name, one) == 0 || strcmp(name, other) == 0) sum += value;
    if (f) fclose(f);
    return (size_t)sum;
}

/* What files a version of control groups has in a group's folder. */
typedef struct GroupFiles {
    const char *mount, *controller; /* in /proc/self/cgroup: the list of controllers, "" in version 2 */
    const char *limit, *used, *active, *inactive;
} GroupFiles;

/* Files that were read are in memory too, but go when it is wanted. */
static void apply_group(Machine *m, const GroupFiles *g, const char *folder) {
    char path[2 * PATH_LENGTH];
    snprintf(path, sizeof path, "%s/%s", folder, g->limit);
    size_t limit = read_number(path);
    if (limit == 0) return;
    snprintf(path, sizeof path, "%s/%s", folder, g->used);
    size_t used = read_number(path);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    size_t files = read_sum(path, g->active, g->inactive);
    used -= files < used ? files : used;
    size_t left = used < limit ? limit - used : 1; /* 0 would mean that it is unknown */
    if (limit < m->memory) m->memory = limit;
    if (left < m->available) m->available = left;
}

/* The group that /proc/self/cgroup names for the controller, and all above it. Where its folder is not visible, as in a
 * container, the mounted one is the container's own. */
static void apply_groups(Machine *m, const GroupFiles *g, const char *root) {
    char line[PATH_LENGTH], path[PATH_LENGTH], folder[PATH_LENGTH + 128];
    char group[PATH_LENGTH] = "";
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) { /* "ID:CONTROLLERS:PATH" */
        char *list = strchr(line, ':'), *where = list ? strchr(list + 1, ':') : NULL;
        if (!where) continue;
        *where++ = 0;
        where[strcspn(where, "\n")] = 0;
        if (strcmp(list + 1, g->controller) == 0) snprintf(group, sizeof group, "%s", where);
    }
    if (f) fclose(f);
    for (;;) {
        size_t n = strlen(group);
        if (n && group[n - 1] == '/') group[n - 1] = 0;
        snprintf(folder, sizeof folder, "%.1000s/sys/fs/cgroup%s%.3000s", root, g->mount, group);
        apply_group(m, g, folder);
        char *slash = strrchr(group, '/');
        if (!slash) break;
        *slash = 0;
    }
}

static void read_memory(Machine *m, const char *root) {
    static const GroupFiles versions[] = {
        {"", "", "memory.max", "memory.current", "active_file", "inactive_file"},
        {"/memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file",
         "total_inactive_file"},
    };
    char line[256], path[PATH_LENGTH];
    unsigned long long kib;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemTotal: %llu", &kib) == 1) m->memory = (size_t)kib << 10;
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) m->available = (size_t)kib << 10;
    }
    if (f) fclose(f);
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) apply_groups(m, &versions[i], root);
}

void machine_memory(const char *root, Machine *m) {
    m->memory = m->available = 0;
    read_memory(m, root);
}

void machine_read(Machine *m) {
    *m = (Machine){0};
    read_cpu(m);
    read_memory(m, "");
}
