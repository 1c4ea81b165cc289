/* Learn: the loops that train the autoencoder and the text encoder, and the folders they leave. */
#ifndef DRPO_PRETRAIN_LEARN_H
#define DRPO_PRETRAIN_LEARN_H

#include "pretrain/folder.h"

/* The files of both components, as they lie in a diffusers folder: config, weights. */
extern const char *const vae_files[2], *const text_files[2];

FolderFill learn_autoencoder, learn_text; /* `folder` becomes vae/, text_encoder/ */

#endif
