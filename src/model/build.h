/* Build: what every network builder needs, and the layers that all of them are made of.
 *
 * A builder asks `weights` for tensors by their diffusers names and appends nodes to `g`. With an adapter, linear
 * layers whose module it knows get the LoRA branch; without one the same weights give the frozen reference. */
#ifndef DRPO_MODEL_BUILD_H
#define DRPO_MODEL_BUILD_H

#include "engine/graph.h"
#include "model/lora.h"
#include "model/weights.h"

typedef struct Build {
    Graph *g;
    Weights *weights;
    Adapter *adapter;     /* NULL: frozen */
    bool registering;     /* first build: collect target modules into `adapter` instead of using it */
    Adapter *all_linears; /* if set while registering: receives every linear module (for lora_read) */
    int next_segment;     /* recompute units, one per resnet or transformer block */
    bool apart;           /* LoRA pairs never become one weight with their layer's: the backend rounds that */
    float dropout;        /* of what enters a LoRA branch; 0: none */
    Value text;           /* with dropout: what all candidates share, as they do everything of rank 2 */
    Value keys, shared;   /* the masks' keys (graph.h), of candidates and of what they share; made when first needed */
} Build;

/* Each takes the module's name; weight and bias are "<name>.weight" and "<name>.bias". `bias` false: the layer has
 * none. */
Value layer_linear(Build *b, Value x, int64_t out, bool bias, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
Value layer_conv(Build *b, Value x, int64_t out, int kernel, int stride, Pad pad, bool bias, const char *format, ...)
    __attribute__((format(printf, 8, 9)));
Value layer_group_norm(Build *b, Value x, int groups, float eps, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
Value layer_layer_norm(Build *b, Value x, float eps, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The node of "<module>.<part>" ("weight", "bias"); a missing tensor becomes the graph's mistake, in the words of
 * weights.c. */
Value layer_weight(Build *b, Shape shape, const char *module, const char *part);

/* Diffusers' ResnetBlock2D: y = (shortcut(x) + conv2(act(norm2(conv1(act(norm1(x))) + temb)))) / output_scale. UNet and
 * VAE. */
typedef struct ResnetBlock {
    int groups;
    float eps;
    Act act;
    bool scale_shift; /* temb gives scale and shift after norm2 instead of a shift before it */
    float output_scale;
} ResnetBlock;
/* x [N,C,H,W], temb [N|1,T], already activated, or NULL -> [N,out,H,W]; one recompute segment. */
Value block_resnet(Build *b, const ResnetBlock *r, Value x, Value temb, int64_t out, const char *name);

#endif
