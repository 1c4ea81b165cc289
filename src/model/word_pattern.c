/* Word patterns: see word_pattern.h. */
#include "model/word_pattern.h"

int word_pattern_compile(const char *pattern, pcre2_code **out, Error *err) {
    int code;
    PCRE2_SIZE offset;
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (!*out)
        return fail(err, DRPO_E_INTERNAL,
                    "tokenizer: PCRE2 refuses a word pattern (code %d at %zu); it needs Unicode support", code,
                    (size_t)offset);
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* only speed: without it the interpreter runs */
    return 0;
}
