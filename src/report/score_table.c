/* Score table: eval/table.json -> one HTML table, a row per tag, reward and overall. */
#include "report/score_table.h"

#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "report/html.h"

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static double bound(const json_t *metric, const char *key, size_t i) {
    return json_number_value(json_array_get(json_object_get(metric, key), i));
}

static void write_value(FILE *out, const json_t *metric, const char *key, const char *interval) {
    fprintf(out, "<td>%.3f <span class=soft>[%.3f, %.3f]</span></td>", number(metric, key), bound(metric, interval, 0),
            bound(metric, interval, 1));
}

static void write_row(FILE *out, const char *name, const json_t *metric) {
    double low = bound(metric, "interval", 0), high = bound(metric, "interval", 1);
    bool compared = json_object_get(metric, "tuned") != NULL;
    fprintf(out, "<tr%s><td>", strcmp(name, "overall") == 0 ? " class=total" : "");
    html_text(out, name);
    fprintf(out, "</td>");
    write_value(out, metric, "base", "base_interval");
    if (compared) {
        write_value(out, metric, "tuned", "tuned_interval");
        fprintf(out, "<td class=%s>%+.3f</td><td class=soft>[%+.3f, %+.3f]</td>",
                low > 0    ? "up"
                : high < 0 ? "down"
                           : "soft",
                number(metric, "difference"), low, high);
    }
    fprintf(out, "</tr>\n");
}

int score_table_write(FILE *out, const char *path, Error *err) {
    if (!file_exists(path)) return 0;
    json_t *root;
    TRY(json_load_path(path, &root, err));
    const char *name;
    json_t *metric, *metrics = json_object_get(root, "metrics");
    fprintf(out,
            "<h2>Scores on held-out prompts</h2>\n<p class=soft>%.0f prompts, %.0f pictures of each model, the same "
            "noises. Brackets: 95 "
            "%% bootstrap intervals over prompts; the difference is paired.</p>\n",
            number(root, "prompts"), number(root, "images"));
    if (number(root, "prompts_failed") > 0)
        fprintf(out, "<p class=soft>%.0f prompts are left out: a reward could not score their pictures.</p>\n",
                number(root, "prompts_failed"));
    fprintf(
        out,
        "<div class=scroll><table><tr><th></th><th>base</th><th>tuned</th><th>difference</th><th>interval</th></tr>\n");
    json_object_foreach(metrics, name, metric) write_row(out, name, metric);
    fprintf(out, "</table></div>\n");
    json_decref(root);
    return 0;
}
