/* Full weights: every weight of the UNet as float32 values that training changes, in the place of an adapter.
 *
 * An Adapter without pairs whose `full` holds the trained copies: whoever trains, averages or saves an adapter handles
 * it too. On disk it is a diffusers component: FOLDER/unet/config.json and diffusion_pytorch_model.safetensors. */
#ifndef DRPO_MODEL_FULL_WEIGHTS_H
#define DRPO_MODEL_FULL_WEIGHTS_H

#include "model/pipeline.h"

/* A copy of the pipeline's UNet. */
int full_new(Pipeline *p, Adapter **out, Error *err);
/* A copy of any component's weights, which outlive it: names are theirs. */
int full_of(const Weights *from, Adapter **out, Error *err);
/* The weights alone, in float32; refuses values that are not finite. */
int full_write_file(const Adapter *a, const char *path, Error *err);
/* FOLDER/unet, in float32; refuses values that are not finite. */
int full_write(const Adapter *a, const Pipeline *p, const char *folder, Error *err);
/* FOLDER/unet must have the pipeline's tensors. */
int full_read(Pipeline *p, const char *folder, Adapter **out, Error *err);
extern const char full_file[];       /* the weights' file, below the folder */
bool full_is_in(const char *folder); /* FOLDER/unet holds weights */

#endif
