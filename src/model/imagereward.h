/* ImageReward v1: how well a picture fits its prompt and how good it is, by BLIP (ViT-L/16 and BERT with
 * cross-attention) and an affine head. */
#ifndef DRPO_MODEL_IMAGEREWARD_H
#define DRPO_MODEL_IMAGEREWARD_H

#include "engine/backend.h"
#include "model/build.h"

typedef struct ImageRewardConfig {
    int image, patch, vision_width, vision_layers, vision_mlp; /* image: side of the square that goes in */
    int width, layers, mlp, vocab, positions;                  /* of BERT */
    int head;                                                  /* width of one attention head, in both networks */
    float eps;                                                 /* of BERT's norms */
} ImageRewardConfig;

typedef struct ImageReward ImageReward;

/* Sizes as the weights tell them; `folder` may hold med_config.json, which tells the heads of BERT (else 64 wide). */
int imagereward_config_read(const char *folder, const Weights *w, ImageRewardConfig *c, Error *err);

/* `folder`: ImageReward.pt (or .safetensors) and vocab.txt of bert-base-uncased. Runs on `backend`, which outlives it.
 */
int imagereward_open(const char *folder, Backend *backend, ImageReward **out, Error *err);
void imagereward_free(ImageReward *m);
/* rgb [count,height,width,3] -> scores [count]: (head - mean) / deviation of the published model. */
int imagereward_score(ImageReward *m, const char *prompt, const uint8_t *rgb, int count, int width, int height,
                      float *scores, Error *err);

/* Plans for a text and so many pictures before any is scored; nothing is filled where the backend defers. */
int imagereward_plan(ImageReward *m, const char *prompt, int pictures, Error *err);
/* What filling will take. *mapped: bytes read in the file. */
size_t imagereward_pending(const ImageReward *m, size_t *mapped);

/* ---- networks; mistakes are in the graph ---- */

/* pixels [N,3,image,image], normalised -> [N, 1 + patches, vision width] */
Value imagereward_vision_build(Build *b, const ImageRewardConfig *c, Value pixels);
/* ids I32 [N,T] without padding, picture [N,P,vision width] -> the head's raw value [N,1,1]; *states (may be NULL):
 * what BERT gives, [N,T,width] */
Value imagereward_text_build(Build *b, const ImageRewardConfig *c, Value ids, Value picture, Value *states);
/* Tensors of the file that score nothing. */
void imagereward_ignore(Weights *w);

#endif
