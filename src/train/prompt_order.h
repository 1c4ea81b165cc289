/* Prompt order: which prompts an update uses, from the seed and the update's number alone, so that a resumed run needs
 * no state.
 *
 *   shuffle            every epoch is a new permutation of all prompts
 *   file               the file's order, again and again
 *   tags:a=2,b=1       each prompt drawn: first a tag by weight, then one of its prompts, evenly */
#ifndef DRPO_TRAIN_PROMPT_ORDER_H
#define DRPO_TRAIN_PROMPT_ORDER_H

#include "format/prompts.h"

typedef struct PromptOrder PromptOrder;

int prompt_order_check(const char *spec, Error *err); /* syntax only */
int prompt_order_new(const char *spec, uint64_t seed, const PromptList *prompts, PromptOrder **out, Error *err);
void prompt_order_free(PromptOrder *o);
/* Indices [n] of the prompts of update `number` (from 0). */
void prompt_order_pick(PromptOrder *o, long number, int n, size_t *indices);

#endif
