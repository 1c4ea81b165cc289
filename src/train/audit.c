/* Lines of candidates.jsonl. See audit.h. */
#include "train/audit.h"

static json_t *numbers(const int *values, int n) {
    json_t *list = json_array();
    int bad = !list;
    for (int i = 0; i < n; i++) bad |= json_array_append_new(list, json_integer(values[i]));
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

static json_t *scores_by_name(const ScoredPrompt *p, const RewardSet *rewards) {
    json_t *object = json_object();
    int bad = !object;
    for (int r = 0; r < p->rewards; r++) {
        json_t *list = json_array();
        for (int i = 0; i < p->count; i++)
            bad |= json_array_append_new(list, json_real((double)p->raw[(size_t)r * p->stride + (size_t)i]));
        bad |= json_object_set_new(object, rewards->reward[r]->name, list);
    }
    if (!bad) return object;
    json_decref(object);
    return NULL;
}

static int fill(json_t *line, const ScoredPrompt *p, const RewardSet *rewards) {
    const Selection *s = p->selection;
    if (p->count == 0) return json_object_set_new(line, "failed", json_true());
    int bad = json_object_set_new(line, "scores", scores_by_name(p, rewards));
    if (s->skip) return bad | json_object_set_new(line, "skipped", json_true());
    bad |= json_object_set_new(line, "positives", numbers(s->pos, s->n_pos));
    return bad | json_object_set_new(line, "negatives", numbers(s->neg, s->n_neg));
}

int audit_write(JsonlWriter *w, const AuditKey *key, const ScoredPrompt *p, const RewardSet *rewards, Error *err) {
    json_t *line = json_pack("{s:I, s:I, s:[I, I, i]}", "step", (json_int_t)key->update + 1, "prompt",
                             (json_int_t)key->prompt, "key", (json_int_t)key->seed, (json_int_t)key->update, key->slot);
    const int code = !line || fill(line, p, rewards) ? fail(err, DRPO_E_MEMORY, "%s: out of memory", w->path)
                                                     : jsonl_write(w, line, err);
    json_decref(line);
    return code;
}
