/* LoRA: y = W x + b + (alpha/r) B A x on chosen linear layers; A [r,in], B [out,r] are all that training changes.
 *
 * An Adapter owns its pairs' float32 values, in one block, pair after pair (A then B) in the order of the network.
 * Names are diffusers module paths ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"), as in PEFT files. */
#ifndef DRPO_MODEL_LORA_H
#define DRPO_MODEL_LORA_H

#include "base/rng.h"
#include "engine/tensor.h"

typedef struct LoraPair {
    char *module;
    int64_t in, out;
    int rank;
    float scale;               /* alpha / rank times the user's scale */
    Param a, b;                /* [r,in], [out,r]; data inside the adapter's block */
    size_t offset_a, offset_b; /* in floats, into Adapter.values */
} LoraPair;

struct Weights;

typedef struct Adapter {
    int rank;
    float alpha;
    char **targets; /* NULL-terminated: "to_q", "to_k", ...: module names that end in ".<target>" */
    LoraPair *pair;
    int n_pair;
    float *values;        /* all A and B, contiguous */
    size_t count;         /* floats in values */
    struct Weights *full; /* all weights are trained, there are no pairs (full_weights.h); NULL: LoRA */
    float dropout;        /* of what enters a pair, in the pass that is differentiated; 0: none */
} Adapter;

/* What training changes: one parameter and where its values begin. */
typedef struct AdapterLeaf {
    Param *param;
    size_t offset; /* in floats, into Adapter.values */
} AdapterLeaf;
int lora_leaves(const Adapter *a);
AdapterLeaf lora_leaf(const Adapter *a, int i);

/* An adapter for modules that are added with lora_register while a network is built for the first time. */
Adapter *lora_new(int rank, float alpha, const char *targets_comma_separated, Error *err);
void lora_free(Adapter *a);
bool lora_is_target(const Adapter *a, const char *module);
int lora_register(Adapter *a, const char *module, int64_t in, int64_t out, Error *err); /* before lora_allocate */
int lora_allocate(Adapter *a, Error *err);           /* fixes addresses; values zero */
LoraPair *lora_find(Adapter *a, const char *module); /* NULL: module is not adapted */
/* A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5, as PEFT), B zero; pair i uses candidate i of stream RNG_LORA. */
void lora_init(Adapter *a, uint64_t seed);
bool lora_finite(const Adapter *a);

/* PEFT, diffusers or kohya/ComfyUI file, or a PEFT folder; ranks and alphas as the file says, times `scale`. A key of
 * no module of `known` (a registered adapter that lists every linear module of the network) is an error that names it.
 */
int lora_read(const char *path, float scale, const Adapter *known, Adapter **out, Error *err);
/* One adapter that adds what both add. */
int lora_combine(const Adapter *a, const Adapter *b, Adapter **out, Error *err);
/* Copies values of `from` into `to` (same modules, same ranks) for --lora-init and resume. */
int lora_copy(Adapter *to, const Adapter *from, Error *err);

typedef enum LoraFormat { LORA_PEFT, LORA_DIFFUSERS, LORA_KOHYA } LoraFormat;
typedef struct LoraMeta { /* what goes into headers and adapter_config.json; strings may be NULL */
    const char *base_model, *comment,
        *architecture; /* "stable-diffusion-v2/lora", "stable-diffusion-xl-v1-base/lora" */
    const char *title, *command;
    long steps;
    uint64_t seed;
    float learning_rate;
    int resolution;
} LoraMeta;
/* PEFT: `path` is a folder (adapter_model.safetensors + adapter_config.json); the others: one file. Refuses non-finite
 * values. Reads the result back and compares B A alpha/r. */
int lora_write(const Adapter *a, LoraFormat format, const char *path, const LoraMeta *meta, Error *err);

/* Writes the UNet file of `w` with W + (alpha/r) B A in every adapted layer, in the types of the original; reads it
 * back and compares. checkpoint_merge.h does so for a checkpoint in one file. */
int lora_merge_file(const struct Weights *w, const Adapter *a, const char *path, Error *err);

#endif
