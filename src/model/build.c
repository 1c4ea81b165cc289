/* Layers: a weight's name and a shape in, a graph node out. Linear layers get their LoRA here and nowhere else:
 * y = W x + b + (alpha/r) B A drop(x). Every network of the update is made of these four. */
#include "model/build.h"

#include <stdarg.h>
#include <stdio.h>

enum { MODULE_LENGTH = 256 };

static void module_name(Build *b, char name[MODULE_LENGTH], const char *format, va_list args) {
    int n = vsnprintf(name, MODULE_LENGTH, format, args);
    if (n < 0 || n >= MODULE_LENGTH) graph_mistake(b->g, "module name '%s...' is too long", name);
}

Value layer_weight(Build *b, Shape shape, const char *module, const char *part) {
    Param *p = weights_get(b->weights, shape, "%s.%s", module, part);
    if (!p) {
        graph_mistake(b->g, "%s", weights_mistake(b->weights));
        return NULL;
    }
    return param(b->g, p);
}

static void register_linear(Build *b, const char *module, int64_t in, int64_t out) {
    Error err = {0};
    int code = 0;
    if (b->all_linears) code = lora_register(b->all_linears, module, in, out, &err);
    if (code == 0 && b->adapter && lora_is_target(b->adapter, module))
        code = lora_register(b->adapter, module, in, out, &err);
    if (code < 0) graph_mistake(b->g, "%s", err.text);
}

/* m x / (1 - p). A layer whose input the candidates share has one mask for all of them. */
static Value dropped(Build *b, Value x, const LoraPair *pair) {
    const bool shared = x->shape.rank == 2 || x == b->text;
    Value *keys = shared ? &b->shared : &b->keys;
    if (!*keys)
        *keys = input(b->g, shared ? "shared keys" : "keys", DT_I32, shape2(shared ? 1 : x->shape.dim[0], DROPOUT_KEY));
    return dropout(b->g, x, *keys, b->dropout, (int)(pair - b->adapter->pair));
}

/* scale B (A x): the rank comes first, so the detour costs r (in + out) instead of in out. */
static Value lora_branch(Build *b, Value x, LoraPair *pair) {
    Graph *g = b->g;
    if (b->dropout > 0) x = dropped(b, x, pair);
    Value low = linear(g, x, param(g, &pair->a), NULL);
    return affine(g, linear(g, low, param(g, &pair->b), NULL), pair->scale, 0);
}

/* W + scale B A */
static Value joined_weight(Build *b, Value weight, LoraPair *pair) {
    Graph *g = b->g;
    Value delta = matmul(g, param(g, &pair->b), param(g, &pair->a), false, false);
    return add(g, weight, affine(g, delta, pair->scale, 0));
}

/* With W + scale B A as the weight, the gradient is that of a whole weight: 3 in out operations a row instead of
 * 2 in out + 3 r (in + out), which is less in small layers, once there are enough rows to forget the sum itself. */
static bool joining_pays(int64_t rows, int64_t in, int64_t out, int64_t rank) {
    return rows > 8 * rank && in * out <= 3 * rank * (in + out);
}

Value layer_linear(Build *b, Value x, int64_t out, bool bias, const char *format, ...) {
    char module[MODULE_LENGTH];
    va_list args;
    va_start(args, format);
    module_name(b, module, format, args);
    va_end(args);
    if (!x) return NULL;
    int64_t in = x->shape.dim[x->shape.rank - 1];
    Value weight = layer_weight(b, shape2(out, in), module, "weight");
    LoraPair *pair = b->adapter && !b->registering ? lora_find(b->adapter, module) : NULL;
    bool apart = b->apart || b->dropout > 0; /* the weight sees x whole, with dropout the branch does not */
    bool joined = pair && !apart && joining_pays(shape_count(x->shape) / in, in, out, pair->a.shape.dim[0]);
    if (joined) weight = joined_weight(b, weight, pair);
    Value y = linear(b->g, x, weight, bias ? layer_weight(b, shape1(out), module, "bias") : NULL);
    if (b->registering) {
        register_linear(b, module, in, out);
        return y;
    }
    return pair && !joined ? add(b->g, y, lora_branch(b, x, pair)) : y;
}

Value layer_conv(Build *b, Value x, int64_t out, int kernel, int stride, Pad pad, bool bias, const char *format, ...) {
    char module[MODULE_LENGTH];
    va_list args;
    va_start(args, format);
    module_name(b, module, format, args);
    va_end(args);
    if (!x) return NULL;
    Value weight = layer_weight(b, shape4(out, x->shape.dim[1], kernel, kernel), module, "weight");
    return conv2d(b->g, x, weight, bias ? layer_weight(b, shape1(out), module, "bias") : NULL, stride, pad);
}

Value layer_group_norm(Build *b, Value x, int groups, float eps, const char *format, ...) {
    char module[MODULE_LENGTH];
    va_list args;
    va_start(args, format);
    module_name(b, module, format, args);
    va_end(args);
    if (!x) return NULL;
    Shape channels = shape1(x->shape.dim[1]);
    Value weight = layer_weight(b, channels, module, "weight");
    return group_norm(b->g, x, weight, layer_weight(b, channels, module, "bias"), groups, eps);
}

Value layer_layer_norm(Build *b, Value x, float eps, const char *format, ...) {
    char module[MODULE_LENGTH];
    va_list args;
    va_start(args, format);
    module_name(b, module, format, args);
    va_end(args);
    if (!x) return NULL;
    Shape channels = shape1(x->shape.dim[x->shape.rank - 1]);
    Value weight = layer_weight(b, channels, module, "weight");
    return layer_norm(b->g, x, weight, layer_weight(b, channels, module, "bias"), eps);
}

/* The time embedding enters as a shift per channel before norm2, or as scale and shift after it. */
static Value resnet_condition(Build *b, const ResnetBlock *r, Value h, Value temb, int64_t out, const char *name) {
    Graph *g = b->g;
    int64_t width = r->scale_shift ? 2 * out : out;
    Value t = temb ? layer_linear(b, temb, width, true, "%s.time_emb_proj", name) : NULL;
    int64_t batch = t ? t->shape.dim[0] : 0;
    if (t && !r->scale_shift) h = add(g, h, reshape(g, t, shape4(batch, out, 1, 1)));
    h = layer_group_norm(b, h, r->groups, r->eps, "%s.norm2", name);
    if (t && r->scale_shift) {
        Value scale = reshape(g, slice(g, t, 1, 0, out), shape4(batch, out, 1, 1));
        Value shift = reshape(g, slice(g, t, 1, out, out), shape4(batch, out, 1, 1));
        h = add(g, mul(g, h, affine(g, scale, 1, 1)), shift);
    }
    return h;
}

/* Through a shortcut goes the residual stream itself: rounding it there costs more than all other layers' rounding
 * together (a LoRA gradient of the embedded generator: cosine 0.89 with float32's, 0.999 without) and saves nothing. */
static Value shortcut(Build *b, Value x, int64_t out, const char *name) {
    Value y = layer_conv(b, x, out, 1, 1, pad_same(0), true, "%s.conv_shortcut", name);
    if (y) y->in[1]->param->precise = true;
    return y;
}

Value block_resnet(Build *b, const ResnetBlock *r, Value x, Value temb, int64_t out, const char *name) {
    Graph *g = b->g;
    if (!x) return NULL;
    graph_segment(g, ++b->next_segment);
    Value h = act(g, layer_group_norm(b, x, r->groups, r->eps, "%s.norm1", name), r->act);
    h = layer_conv(b, h, out, 3, 1, pad_same(1), true, "%s.conv1", name);
    h = act(g, resnet_condition(b, r, h, temb, out, name), r->act);
    h = layer_conv(b, h, out, 3, 1, pad_same(1), true, "%s.conv2", name);
    if (x->shape.dim[1] != out) x = shortcut(b, x, out, name);
    Value y = add(g, x, h);
    if (r->output_scale != 1) y = affine(g, y, 1 / r->output_scale, 0);
    graph_segment(g, 0);
    return y;
}
