/* Config values: from text to a checked, canonical text. Private to the config files. */
#ifndef DRPO_TRAIN_CONFIG_VALUE_H
#define DRPO_TRAIN_CONFIG_VALUE_H

#include "train/config.h"

/* Checks one value of an option and returns its canonical spelling (choices: the first name; bools: true or false) or
 * NULL with *err set; the caller frees it. */
char *value_canonical(const OptionInfo *info, const char *value, Error *err);
bool value_is_list(OptionType type);
bool value_splits(OptionType type); /* a comma separates items */
/* Index of `value` in "a|b=c|d", -1 when absent. */
int value_choice(const char *limits, const char *value);
/* "a, b, c" of "a|b=x|c" */
void value_choice_names(const char *limits, char *out, size_t size);
bool value_parse_bytes(const char *text, size_t *bytes);
/* '-' and '_' are the same letter. */
bool key_equal(const char *a, const char *b);
/* `key` is the option's key or one of its aliases. */
bool option_answers_to(const OptionInfo *info, const char *key);
/* The key or alias of this verb's options that is nearest to `key`, NULL when none is near. */
const char *option_nearest(drpo_verb verb, const char *key, Arena *a);

#endif
