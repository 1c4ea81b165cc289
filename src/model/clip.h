/* CLIP: two towers that put pictures and texts into one space. OpenAI's and LAION's models, PickScore and HPSv2 are
 * this network with other weights.
 *
 * A folder in transformers' layout describes itself (config.json); a checkpoint alone is recognised by its shapes as
 * one of the published sizes. Tensors may have transformers' or OpenCLIP's names, in safetensors or a file of
 * torch.save; every tensor must be there and none may be left over. */
#ifndef DRPO_MODEL_CLIP_H
#define DRPO_MODEL_CLIP_H

#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "model/tokenizer.h"

typedef struct ClipConfig {
    ClipTextConfig text;
    ClipVisionConfig vision;
    int projection; /* numbers of an embedding */
} ClipConfig;

typedef struct ClipModel {
    ClipConfig config;
    Weights *weights;
    Tokenizer *tokenizer; /* NULL when none was asked for */
    float scale;          /* exp(logit_scale), about 100 in trained models */
} ClipModel;

typedef struct ClipChoice {
    const char *path;       /* folder, file, or repository id in the Hugging Face cache */
    const char *tokenizer;  /* folder of the tokenizer; "": beside the weights, else in the cache */
    const char *activation; /* "gelu", "quick_gelu"; "": as the files say */
    bool texts;             /* a tokenizer is needed */
    const char *get;        /* for messages: repository that has this model */
} ClipChoice;

int clip_open(const ClipChoice *choice, ClipModel *out, Error *err);
void clip_close(ClipModel *m);

/* FOLDER/config.json of a CLIPModel. */
int clip_config_read(const char *path, ClipConfig *c, Error *err);
/* The published model of these widths; `openclip`: its tensors have OpenCLIP's names. */
int clip_config_published(const char *path, int text_width, int vision_width, bool openclip, const char *activation,
                          ClipConfig *c, Error *err);
/* A safetensors file or one of torch.save, under transformers' names whichever it has. */
int clip_weights_open(const char *path, bool *openclip, Weights **out, Error *err);
/* Both towers at their smallest, in the graph of `b`: asks for every weight once. */
void clip_build_smallest(Build *b, const ClipConfig *c);
int clip_check(Weights *w, const ClipConfig *c, Error *err);

#endif
