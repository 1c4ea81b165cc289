/* Build: what every network builder needs, and the layers that all of them are made of.
 *
 * A builder asks `weights` for tensors by their diffusers names and appends nodes to `g`. With an adapter, linear layers whose
 * module it knows get the LoRA branch; without one the same weights give the frozen reference. */
#ifndef DRPO_MODEL_BUILD_H
#define DRPO_MODEL_BUILD_H

#include "engine/graph.h"
#include "model/lora.h"
#include "model/weights.h"

typedef struct Build {
    Graph *g;
    Weights *weights;
    Adapter *adapter;   /* NULL: frozen */
    bool registering;   /* first build: collect target modules into `adapter` instead of using it */
    Adapter *all_linears; /* if set while registering: receives every linear module (for lora_read) */
    int next_segment;   /* recompute units, one per resnet or transformer block */
} Build;

/* Each takes the module's name; weight and bias are "<name>.weight" and "<name>.bias". `bias` false: the layer has none. */
Value layer_linear(Build *b, Value x, int64_t out, bool bias, const char *format, ...) __attribute__((format(printf, 5, 6)));
Value layer_conv(Build *b, Value x, int64_t out, int kernel, int stride, Pad pad, bool bias, const char *format, ...)
    __attribute__((format(printf, 8, 9)));
Value layer_group_norm(Build *b, Value x, int groups, float eps, const char *format, ...) __attribute__((format(printf, 5, 6)));
Value layer_layer_norm(Build *b, Value x, float eps, const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
