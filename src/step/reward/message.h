/* Messages: the JSON that programs and servers get and answer with (docs/rewards.md). One form for both.
 *
 *     {"prompt":..., "metadata":..., "count":K, "width":W, "height":H, "images_b64":[...]}  ->  {"scores":[...]} */
#ifndef DRPO_STEP_REWARD_MESSAGE_H
#define DRPO_STEP_REWARD_MESSAGE_H

#include "step/step_types.h"

enum { REPLY_MAX = 1 << 20 }; /* bytes; a thousand scores need a fiftieth of it */

typedef enum PictureForm { PICTURES_PNG, PICTURES_RGB, PICTURES_PATHS } PictureForm;

/* Without a newline; released with free(). `folder`: where the pictures lie as 0000.png ..., for paths. */
int message_request(const Prompt *prompt, const Pictures *p, PictureForm form, const char *folder, char **out,
                    Error *err);
/* Path of picture k in the folder. */
void message_picture_path(const char *folder, int k, char *path, size_t size);

typedef enum ReplyKind {
    REPLY_OTHER,  /* JSON that is no answer */
    REPLY_READY,  /* {"status": "ready"} */
    REPLY_SCORES, /* `count` finite scores */
    REPLY_FAULT   /* `what` says which */
} ReplyKind;

ReplyKind message_reply(const char *text, int count, float *scores, char *what, size_t size);

#endif
