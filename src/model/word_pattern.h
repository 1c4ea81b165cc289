/* Word patterns: the regular expressions by which tokenizers cut text into words, the first step from prompt to ids. */
#ifndef DRPO_MODEL_WORD_PATTERN_H
#define DRPO_MODEL_WORD_PATTERN_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"

/* Compiles a pattern over UTF-8 whose classes are Unicode's; freed with pcre2_code_free. */
int word_pattern_compile(const char *pattern, pcre2_code **out, Error *err);

#endif
