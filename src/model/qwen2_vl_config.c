/* config.json of Qwen2-VL. Files written since transformers 4.52 hold the decoder's keys in "text_config" and the
 * rotary embedding's in "rope_parameters"; older ones have everything at the top and "rope_scaling". */
#include "model/component_config.h"
#include "model/qwen2_vl.h"

#include <string.h>

enum { MAX_WIDTH = 1 << 15, MAX_LAYERS = 256, MAX_PATCH = 64 };

static JsonReader section(const JsonReader *r, const char *key) {
    const json_t *inner = json_object_get(r->object, key);
    return (JsonReader){json_is_object(inner) ? inner : r->object, r->where, r->err};
}

static int divides(const JsonReader *r, int width, int heads, int unit) {
    if (width % heads == 0 && width / heads % unit == 0) return 0;
    return fail(r->err, DRPO_E_INPUT, "%s: width %d does not divide into %d heads of a multiple of %d", r->where, width,
                heads, unit);
}

static int read_vision(const JsonReader *whole, QwenVisionConfig *c) {
    JsonReader r = section(whole, "vision_config");
    if (r.object == whole->object)
        return fail(r.err, DRPO_E_INPUT, "%s: has no \"vision_config\"; Qwen2-VL's config.json belongs here", r.where);
    TRY(component_int(&r, "depth", 32, 1, MAX_LAYERS, &c->layers));
    TRY(component_int(&r, "embed_dim", 1280, 1, MAX_WIDTH, &c->width));
    TRY(component_int(&r, "num_heads", 16, 1, MAX_WIDTH, &c->heads));
    TRY(component_int(&r, json_has(&r, "in_chans") ? "in_chans" : "in_channels", 3, 3, 3, &c->channels));
    TRY(component_int(&r, "patch_size", 14, 1, MAX_PATCH, &c->patch));
    TRY(component_int(&r, "temporal_patch_size", 2, 1, 16, &c->temporal));
    TRY(component_int(&r, "spatial_merge_size", 2, 1, 16, &c->merge));
    TRY(component_act(&r, "hidden_act", ACT_QUICK_GELU, &c->act));
    double ratio = json_get_number(&r, "mlp_ratio", 4);
    TRY(json_finish(&r));
    if (!(ratio > 0 && ratio < 64)) return fail(r.err, DRPO_E_INPUT, "%s: mlp_ratio is out of range", r.where);
    c->mlp = (int)(c->width * ratio);
    c->eps = 1e-6f;
    JsonReader rope = section(&r, "rope_parameters");
    c->theta = rope.object == r.object ? 1e4 : json_get_number(&rope, "rope_theta", 1e4);
    TRY(json_finish(&rope));
    return divides(&r, c->width, c->heads, 4);
}

static int read_rotary(const JsonReader *r, Qwen2VlConfig *c) {
    JsonReader rope = section(r, json_has(r, "rope_parameters") ? "rope_parameters" : "rope_scaling");
    int64_t sections[3] = {0};
    size_t n = rope.object == r->object ? 0 : json_get_ints(&rope, "mrope_section", sections, 3);
    c->theta = json_get_number(r, "rope_theta", json_get_number(&rope, "rope_theta", 1e6));
    TRY(json_finish(&rope));
    int64_t half = c->width / c->heads / 2, sum = sections[0] + sections[1] + sections[2];
    if (n != 3 || sum != half)
        return fail(r->err, DRPO_E_INPUT, "%s: mrope_section must be three numbers whose sum is %lld, half of a head",
                    r->where, (long long)half);
    for (int i = 0; i < 3; i++) c->section[i] = (int)sections[i];
    return 0;
}

static int read_all(const JsonReader *whole, void *config) {
    Qwen2VlConfig *c = config;
    const char *kind = json_get_string(whole, "model_type", "qwen2_vl");
    TRY(json_finish(whole));
    if (strcmp(kind, "qwen2_vl") != 0)
        return fail(whole->err, DRPO_E_INPUT, "%s: model_type = '%s' is not supported (supported: qwen2_vl)",
                    whole->where, kind);
    TRY(read_vision(whole, &c->vision));
    JsonReader r = section(whole, "text_config");
    TRY(component_int(&r, "hidden_size", 3584, 1, MAX_WIDTH, &c->width));
    TRY(component_int(&r, "num_hidden_layers", 28, 1, MAX_LAYERS, &c->layers));
    TRY(component_int(&r, "num_attention_heads", 28, 1, MAX_WIDTH, &c->heads));
    TRY(component_int(&r, "num_key_value_heads", 4, 1, MAX_WIDTH, &c->kv_heads));
    TRY(component_int(&r, "intermediate_size", 18944, 1, 8 * MAX_WIDTH, &c->mlp));
    c->eps = (float)json_get_number(&r, "rms_norm_eps", 1e-6);
    bool sliding = json_get_bool(&r, "use_sliding_window", false);
    const char *act = json_get_string(&r, "hidden_act", "silu");
    TRY(json_finish(&r));
    if (sliding || strcmp(act, "silu") != 0 || !(c->eps > 0) || c->heads % c->kv_heads)
        return fail(r.err, DRPO_E_INPUT,
                    "%s: use_sliding_window, hidden_act, rms_norm_eps or num_key_value_heads is not Qwen2-VL's",
                    r.where);
    TRY(divides(&r, c->width, c->heads, 2));
    return read_rotary(&r, c);
}

int qwen2_vl_config_read(const char *path, Qwen2VlConfig *c, Error *err) {
    *c = (Qwen2VlConfig){0};
    return component_read(path, read_all, c, err);
}
