/* Config values: checks one text against its row of the table. See config_value.h. */
#include "train/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool value_splits(OptionType type) { return type == OPTION_NUMBERS || type == OPTION_NAMES; }

bool value_is_list(OptionType type) { return value_splits(type) || type == OPTION_LIST || type == OPTION_FILES; }

bool key_equal(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        char x = *a == '_' ? '-' : *a, y = *b == '_' ? '-' : *b;
        if (x != y) return false;
    }
    return *a == *b;
}

/* Calls for each word of `words` (separated by one of `separators`) until one matches. */
static bool any_word(const char *words, char separator, const char *wanted, size_t length) {
    for (const char *p = words; *p;) {
        const char *end = strchr(p, separator);
        size_t n = end ? (size_t)(end - p) : strlen(p);
        if (n == length && memcmp(p, wanted, n) == 0) return true;
        p += n + (end != NULL);
    }
    return false;
}

bool option_answers_to(const OptionInfo *info, const char *key) {
    if (info->type == OPTION_FILES) return false;
    if (key_equal(info->key, key)) return true;
    char spelled[96];
    size_t n = strlen(key);
    if (n == 0 || n >= sizeof spelled) return false;
    for (size_t i = 0; i <= n; i++) spelled[i] = key[i] == '-' ? '_' : key[i];
    return any_word(info->aliases, ' ', spelled, n);
}

int value_choice(const char *limits, const char *value) {
    size_t n = strlen(value);
    int index = 0;
    for (const char *p = limits; *p; index++) {
        const char *end = strchr(p, '|');
        size_t length = end ? (size_t)(end - p) : strlen(p);
        char names[128];
        if (length >= sizeof names) return -1;
        memcpy(names, p, length);
        names[length] = 0;
        if (any_word(names, '=', value, n)) return index;
        p += length + (end != NULL);
    }
    return -1;
}

void value_choice_names(const char *limits, char *out, size_t size) {
    size_t used = 0;
    bool alias = false;
    for (const char *p = limits; *p && used + 3 < size; p++) {
        if (*p == '=') alias = true;
        if (*p == '|') {
            alias = false;
            out[used++] = ',';
            out[used++] = ' ';
        } else if (!alias) {
            out[used++] = *p;
        }
    }
    out[used] = 0;
}

static char *canonical_choice(const OptionInfo *info, const char *value, Error *err) {
    int index = value_choice(info->limits, value);
    if (index < 0) {
        char names[256];
        value_choice_names(info->limits, names, sizeof names);
        fail(err, DRPO_E_USAGE, "--%s: '%s' is not one of %s", info->key, value, names);
        return NULL;
    }
    const char *p = info->limits;
    while (index-- > 0) p = strchr(p, '|') + 1;
    return strndup(p, strcspn(p, "|="));
}

static char *canonical_bool(const OptionInfo *info, const char *value, Error *err) {
    static const char *const spelling[2] = {"false|no|off|0", "true|yes|on|1"};
    for (int i = 0; i < 2; i++)
        if (value_choice(spelling[i], value) >= 0) return strdup(i ? "true" : "false");
    fail(err, DRPO_E_USAGE, "--%s: '%s' is not true or false", info->key, value);
    return NULL;
}

/* limits "lo..hi", ">lo" or "" */
static bool in_limits(const char *limits, double x) {
    if (limits[0] == '>') return x > strtod(limits + 1, NULL);
    const char *dots = strstr(limits, "..");
    if (!dots) return true;
    if (dots != limits && x < strtod(limits, NULL)) return false;
    return dots[2] == 0 || x <= strtod(dots + 2, NULL);
}

static void explain_limits(const char *limits, char *out, size_t size) {
    const char *dots = strstr(limits, "..");
    if (limits[0] == '>')
        snprintf(out, size, "above %s", limits + 1);
    else if (dots && dots[2] == 0)
        snprintf(out, size, "%.*s or more", (int)(dots - limits), limits);
    else if (dots)
        snprintf(out, size, "from %.*s to %s", (int)(dots - limits), limits, dots + 2);
    else
        snprintf(out, size, "a number");
}

static char *canonical_number(const OptionInfo *info, const char *value, Error *err) {
    char *end = NULL;
    bool whole = info->type == OPTION_INT;
    errno = 0;
    double x = whole ? (double)strtoll(value, &end, 10) : strtod(value, &end);
    if (end == value || *end || errno == ERANGE || !isfinite(x) || isspace((unsigned char)value[0])) {
        fail(err, DRPO_E_USAGE, "--%s: '%s' is not a %s", info->key, value, whole ? "whole number" : "number");
        return NULL;
    }
    if (!in_limits(info->limits, x)) {
        char limits[96];
        explain_limits(info->limits, limits, sizeof limits);
        fail(err, DRPO_E_USAGE, "--%s: %s is out of range, it must be %s", info->key, value, limits);
        return NULL;
    }
    return strdup(value);
}

bool value_parse_bytes(const char *text, size_t *bytes) {
    char *end = NULL;
    double x = strtod(text, &end);
    if (end == text || !isfinite(x) || x < 0) return false;
    static const char units[] = "KMGT";
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (!unit) return false;
        for (const char *u = units; u <= unit; u++) x *= 1024;
        end++;
        if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0) end += strlen(end);
    }
    if (*end || x >= 9e18) return false;
    *bytes = (size_t)x;
    return true;
}

static char *canonical_bytes(const OptionInfo *info, const char *value, Error *err) {
    size_t bytes;
    if (value_parse_bytes(value, &bytes)) return strdup(value);
    fail(err, DRPO_E_USAGE, "--%s: '%s' is not a size such as 512M or 2G", info->key, value);
    return NULL;
}

static char *canonical_text(const OptionInfo *info, const char *value, Error *err) {
    (void)info;
    (void)err;
    return strdup(value);
}

char *value_canonical(const OptionInfo *info, const char *value, Error *err) {
    typedef char *(*Check)(const OptionInfo *, const char *, Error *);
    static const Check check[] = {
        [OPTION_TEXT] = canonical_text,      [OPTION_INT] = canonical_number,    [OPTION_FLOAT] = canonical_number,
        [OPTION_BOOL] = canonical_bool,      [OPTION_CHOICE] = canonical_choice, [OPTION_LIST] = canonical_text,
        [OPTION_NUMBERS] = canonical_number, [OPTION_NAMES] = canonical_text,    [OPTION_BYTES] = canonical_bytes,
        [OPTION_FILES] = canonical_text,
    };
    char *text = check[info->type](info, value, err);
    if (!text) fail(err, DRPO_E_MEMORY, "--%s: out of memory", info->key);
    return text;
}

/* Levenshtein distance, '-' and '_' alike; long words are simply far. */
static int distance(const char *a, const char *b) {
    enum { LONGEST = 64 };
    size_t n = strlen(a), m = strlen(b);
    if (n >= LONGEST || m >= LONGEST) return LONGEST;
    int row[LONGEST + 1];
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            char x = a[i - 1] == '_' ? '-' : a[i - 1], y = b[j - 1] == '_' ? '-' : b[j - 1];
            int change = diagonal + (x != y), insert = row[j - 1] + 1, drop = row[j] + 1;
            diagonal = row[j];
            row[j] = change < insert ? (change < drop ? change : drop) : (insert < drop ? insert : drop);
        }
    }
    return row[m];
}

const char *option_nearest(drpo_verb verb, const char *key, Arena *a) {
    const char *best = NULL;
    int least = (int)strlen(key) / 3 + 2; /* farther is no suggestion */
    for (int id = 0; id < OPT_COUNT; id++) {
        const OptionInfo *info = option_info((OptionId)id);
        if (!(info->verbs & 1u << verb) || info->type == OPTION_FILES) continue;
        char *words = arena_printf(a, "%s %s", info->key, info->aliases);
        if (!words) return NULL;
        char *rest = NULL;
        for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
            int d = distance(key, word);
            if (d < least) {
                least = d;
                best = word;
            }
        }
    }
    return best;
}
