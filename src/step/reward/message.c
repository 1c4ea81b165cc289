/* Messages to and from rewards outside. See message.h. In the update: decode -> reward. */
#include "step/reward/message.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/base64.h"
#include "format/json.h"
#include "format/png.h"

static int no_memory(Error *err) { return fail(err, DRPO_E_MEMORY, "no memory for a reward's request"); }

static json_t *base64_text(const void *data, size_t bytes) {
    char *text = malloc(base64_length(bytes) + 1);
    if (!text) return NULL;
    base64_encode(data, bytes, text);
    json_t *value = json_stringn_nocheck(text, base64_length(bytes));
    free(text);
    return value;
}

static int png_text(const Pictures *p, int k, json_t **out, Error *err) {
    const size_t size = (size_t)p->height * (size_t)p->width * 3;
    uint8_t *data = NULL;
    size_t bytes = 0;
    TRY(png_encode_rgb(p->rgb + (size_t)k * size, p->width, p->height, NULL, 0, &data, &bytes, err));
    *out = base64_text(data, bytes);
    free(data);
    return *out ? 0 : no_memory(err);
}

void message_picture_path(const char *folder, int k, char *path, size_t size) {
    snprintf(path, size, "%s/%04d.png", folder, k);
}

static int add_list(json_t *request, const Pictures *p, PictureForm form, const char *folder, Error *err) {
    json_t *list = json_array();
    if (!list || json_object_set_new(request, form == PICTURES_PNG ? "images_b64" : "paths", list) < 0)
        return no_memory(err);
    for (int k = 0; k < p->count; k++) {
        json_t *item = NULL;
        char path[600];
        if (form == PICTURES_PNG) {
            TRY(png_text(p, k, &item, err));
        } else {
            message_picture_path(folder, k, path, sizeof path);
            item = json_string(path);
        }
        if (json_array_append_new(list, item) < 0) return no_memory(err);
    }
    return 0;
}

static int add_pictures(json_t *request, const Pictures *p, PictureForm form, const char *folder, Error *err) {
    if (form != PICTURES_RGB) return add_list(request, p, form, folder, err);
    json_t *text = base64_text(p->rgb, (size_t)p->count * (size_t)p->height * (size_t)p->width * 3);
    return json_object_set_new(request, "rgb_b64", text) < 0 ? no_memory(err) : 0;
}

int message_request(const Prompt *prompt, const Pictures *p, PictureForm form, const char *folder, char **out,
                    Error *err) {
    json_t *metadata = NULL;
    *out = NULL;
    if (prompt->metadata)
        TRY(json_load_text("metadata of the prompt", prompt->metadata, strlen(prompt->metadata), &metadata, err));
    json_t *request =
        json_pack("{s:s, s:o, s:i, s:i, s:i}", "prompt", prompt->text, "metadata", metadata ? metadata : json_null(),
                  "count", p->count, "width", p->width, "height", p->height);
    if (!request) return fail(err, DRPO_E_INPUT, "the prompt '%.200s' is not UTF-8 text", prompt->text);
    int code = add_pictures(request, p, form, folder, err);
    if (code == 0 && !(*out = json_dumps(request, JSON_COMPACT))) code = no_memory(err);
    json_decref(request);
    return code;
}

/* ---- reply ---- */

static ReplyKind read_scores(const json_t *list, int count, float *scores, char *what, size_t size) {
    if (!json_is_array(list)) {
        snprintf(what, size, "\"scores\" in its reply is not a list");
        return REPLY_FAULT;
    }
    if (json_array_size(list) != (size_t)count) {
        snprintf(what, size, "it gave %zu scores for %d pictures", json_array_size(list), count);
        return REPLY_FAULT;
    }
    for (int k = 0; k < count; k++) {
        const json_t *value = json_array_get(list, (size_t)k);
        scores[k] = (float)json_number_value(value);
        if (json_is_number(value) && isfinite(scores[k])) continue;
        snprintf(what, size, "score %d of %d is not a finite number", k + 1, count);
        return REPLY_FAULT;
    }
    return REPLY_SCORES;
}

ReplyKind message_reply(const char *text, int count, float *scores, char *what, size_t size) {
    json_error_t problem;
    json_t *reply = json_loads(text, 0, &problem);
    ReplyKind kind = REPLY_OTHER;
    if (!reply) {
        snprintf(what, size, "its reply is not JSON (%.80s; NaN and Infinity are not): %.80s", problem.text, text);
        return REPLY_FAULT;
    }
    const char *status = json_string_value(json_object_get(reply, "status"));
    const json_t *message = json_object_get(reply, "error"), *list = json_object_get(reply, "scores");
    if (message && !json_is_null(message)) {
        snprintf(what, size, "it reports: %.380s", json_is_string(message) ? json_string_value(message) : "an error");
        kind = REPLY_FAULT;
    } else if (list) {
        kind = read_scores(list, count, scores, what, size);
    } else if (status && strcmp(status, "ready") == 0) {
        kind = REPLY_READY;
    }
    json_decref(reply);
    return kind;
}
