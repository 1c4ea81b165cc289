/* Text encoders of a pipeline: ids of a prompt -> states for cross-attention and, in SDXL, one pooled vector.
 *
 *   StableDiffusionPipeline:    states = last states of text_encoder, after its final norm
 *   StableDiffusionXLPipeline:  states = hidden_states[-2] of text_encoder | the same of text_encoder_2,
 *                               pooled = projected last state of text_encoder_2 at its end-of-text token
 *
 * Each encoder has its own tokenizer: SDXL's first pads with the end-of-text token, its second with "!" (id 0). */
#ifndef DRPO_MODEL_TEXT_ENCODERS_H
#define DRPO_MODEL_TEXT_ENCODERS_H

#include "model/clip_text.h"
#include "model/model_files.h"

enum { MAX_ENCODERS = 2 };

typedef struct TextEncoder {
    ClipTextConfig config;
    Tokenizer *tokenizer;
    Weights *weights;
} TextEncoder;

typedef struct TextEncoders {
    TextEncoder encoder[MAX_ENCODERS];
    int count;         /* 1, or 2 in SDXL */
    int tokens, width; /* states [T,D] */
    int pooled;        /* [P], 0: none */
} TextEncoders;

/* Opens text_encoder and tokenizer; with `sdxl` text_encoder_2 and tokenizer_2 too. */
int text_encoders_open(const ModelFiles *f, bool sdxl, TextEncoders *out, Error *err);
void text_encoders_close(TextEncoders *t);
/* Missing, misshapen and unknown tensors, by building every encoder once to nowhere. */
int text_encoders_check(const TextEncoders *t, Error *err);
size_t text_encoders_bytes(const TextEncoders *t); /* of the weights */

/* One prompt's text as the generator takes it: states [T,D], then pooled [P]. */
size_t text_encoders_floats(const TextEncoders *t);

typedef struct TextNodes {
    Value ids[MAX_ENCODERS]; /* I32 [1,T] */
    Value at_end;            /* [1,1,T], see clip_text_find_end; NULL without pooled text */
    Value states, pooled;    /* [1,T,D], [1,P] */
} TextNodes;
/* Appends all encoders; what goes wrong is the graph's mistake. */
void text_encoders_build(const TextEncoders *t, Graph *g, TextNodes *out);
/* Ids of every encoder, [count][T], and where the last one's text ends, [T]. `truncated` may be NULL. */
int text_encoders_tokenize(const TextEncoders *t, const char *prompt, int32_t *ids, float *at_end, bool *truncated,
                           Error *err);

#endif
