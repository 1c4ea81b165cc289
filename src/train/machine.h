/* Machine: what this computer offers: instructions and memory. */
#ifndef DRPO_TRAIN_MACHINE_H
#define DRPO_TRAIN_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

enum { CPU_NAME = 128 };

typedef struct Machine {
    char cpu[CPU_NAME]; /* "" where the system does not say */
    bool avx2, avx512, bf16, amx;
    size_t memory, available; /* bytes this process could use in all, and now; 0: unknown */
} Machine;

void machine_read(Machine *m);
/* memory and available alone, as the files below `root` ("": the system's own) say: /proc/meminfo, and the limits of
 * the control groups (both versions) that the process is in. */
void machine_memory(const char *root, Machine *m);

#endif
