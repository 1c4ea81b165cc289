/* Tables of unicode_tables.c, sorted by their first column unless a comment says otherwise. */
#ifndef DRPO_MODEL_UNICODE_TABLES_H
#define DRPO_MODEL_UNICODE_TABLES_H

#include <stdint.h>

typedef struct UnicodeStep { /* code = first + second; second 0: only `first` */
    uint32_t code, first, second;
} UnicodeStep;
typedef struct UnicodeClass { /* combining class of first..last; all others have 0 */
    uint32_t first, last;
    uint8_t kind;
} UnicodeClass;
typedef struct UnicodeLower { /* every stride-th code of first..last becomes code + delta */
    uint32_t first, last;
    int32_t stride, delta;
} UnicodeLower;

extern const UnicodeStep unicode_step[];
extern const int unicode_steps;
extern const uint16_t unicode_pair[]; /* the steps that may be composed again, by (first, second) */
extern const int unicode_pairs;
extern const UnicodeClass unicode_class[];
extern const int unicode_classes;
extern const UnicodeLower unicode_lower_range[];
extern const int unicode_lower_ranges;

#endif
