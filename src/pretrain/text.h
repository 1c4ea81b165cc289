/* Text: the text encoder, from random weights, learns to say what a caption names, in the place of CLIP's training.
 *
 *     logits = readout h(token),   loss = sum over attributes of the cross-entropy, a mean over the tokens from the end
 *                                         of the text on
 *
 * `readout` is random and stays as it is: the states come to lie along its rows, so nothing is learnt that is thrown
 * away. Before the generator, which reads the same states. */
#ifndef DRPO_PRETRAIN_TEXT_H
#define DRPO_PRETRAIN_TEXT_H

#include "model/text_encoders.h"
#include "pretrain/captions.h"
#include "pretrain/part.h"

typedef struct TextTraining {
    const TextEncoders *encoders;
    Part part;
    PartPass pass;
    Param readout;
    float *direction;      /* [classes, width] */
    int32_t *ids;          /* [B,T] */
    float *end;            /* [T], of one caption */
    int *first, *said;     /* [B]: end of the text; [B,SCENE_ATTRIBUTES] */
    float *logits, *slope; /* [B,T,classes] */
    int tokens, classes;
} TextTraining;

int text_training_open(TextTraining *t, const TextEncoders *e, const PartOptions *o, Error *err);
void text_training_close(TextTraining *t);
int text_training_draw(TextTraining *t, const Captions *captions, long step, Error *err);
/* The loss of what was drawn, its gradient into part.grad, and the share of captions of which every attribute is read
 * off the last token. */
int text_training_learn(TextTraining *t, double *loss, double *right, Error *err);

#endif
