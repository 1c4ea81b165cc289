/* One block of Philox4x32-10: 128 random bits from a 128-bit counter and a 64-bit key. */
#ifndef DRPO_BASE_PHILOX_H
#define DRPO_BASE_PHILOX_H

#include <stdint.h>

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
