/* Records: JSON lines -> columns of numbers. Read once per report. */
#include "report/records.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/jsonl.h"

static int grow(Records *r, Error *err) {
    size_t room = r->room ? 2 * r->room : 256;
    for (int i = 0; i < r->columns; i++) {
        double *value = realloc(r->column[i].value, room * sizeof *value);
        if (!value) return fail(err, DRPO_E_MEMORY, "report: out of memory");
        r->column[i].value = value;
    }
    r->room = room;
    return 0;
}

static Column *find(Records *r, const char *name) {
    for (int i = 0; i < r->columns; i++)
        if (strcmp(r->column[i].name, name) == 0) return &r->column[i];
    return NULL;
}

/* A column that appears late has no value in the rows before. Columns beyond the limit are left out. */
static int set(Records *r, const char *name, double value, Error *err) {
    Column *c = find(r, name);
    if (!c) {
        if (r->columns == RECORDS_COLUMNS) return 0;
        c = &r->column[r->columns];
        c->value = malloc(r->room * sizeof *c->value);
        if (!c->value) return fail(err, DRPO_E_MEMORY, "report: out of memory");
        snprintf(c->name, sizeof c->name, "%s", name);
        for (size_t i = 0; i < r->rows; i++) c->value[i] = NAN;
        r->columns++;
    }
    c->value[r->rows - 1] = value;
    return 0;
}

static int flatten(Records *r, const char *prefix, const json_t *object, Error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        char name[96];
        snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] ? "/" : "", key);
        if (json_is_object(value)) TRY(flatten(r, name, value, err));
        if (json_is_number(value)) TRY(set(r, name, json_number_value(value), err));
    }
    return 0;
}

static int add_row(void *user, const json_t *value, const char *text, int line, Error *err) {
    (void)text, (void)line;
    Records *r = user;
    if (r->rows == r->room) TRY(grow(r, err));
    r->rows++;
    for (int i = 0; i < r->columns; i++) r->column[i].value[r->rows - 1] = NAN;
    return json_is_object(value) ? flatten(r, "", value, err) : 0;
}

int records_read(const char *path, Records *out, Error *err) {
    memset(out, 0, sizeof *out);
    if (!file_exists(path)) return 0;
    int code = jsonl_read(path, add_row, out, err);
    if (code < 0) records_free(out);
    return code;
}

void records_free(Records *r) {
    for (int i = 0; i < r->columns; i++) free(r->column[i].value);
    memset(r, 0, sizeof *r);
}

const double *records_column(const Records *r, const char *name) {
    for (int i = 0; i < r->columns; i++)
        if (strcmp(r->column[i].name, name) == 0) return r->column[i].value;
    return NULL;
}

double records_last(const Records *r, const char *name) { return records_mean(r, name, 1, 1); }

double records_mean(const Records *r, const char *name, size_t n, int from_end) {
    const double *value = records_column(r, name);
    double sum = 0;
    size_t used = 0;
    for (size_t i = 0; value && i < r->rows && used < n; i++) {
        double v = value[from_end ? r->rows - 1 - i : i];
        if (!isfinite(v)) continue;
        sum += v;
        used++;
    }
    return used ? sum / (double)used : NAN;
}
