/* TensorBoard event files: scalars and images. */
#ifndef DRPO_FORMAT_TFEVENTS_H
#define DRPO_FORMAT_TFEVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct TfEvents TfEvents;

/* Makes the folder and a new events.out.tfevents.<unix>.<host>.<pid>.<n> in it. `resume_step` > 0: TensorBoard then
 * hides what earlier files of the folder say about this step and later ones. */
int tfevents_open(const char *folder, int64_t resume_step, TfEvents **out, Error *err);
int tfevents_scalar(TfEvents *e, const char *tag, int64_t step, double value, Error *err);
int tfevents_image(TfEvents *e, const char *tag, int64_t step, const void *png, size_t size, int width, int height,
                   Error *err);
int tfevents_flush(TfEvents *e, Error *err);
int tfevents_close(TfEvents *e, Error *err); /* NULL is fine; releases it in every case */

uint32_t crc32c(const void *data, size_t size); /* Castagnoli */

#endif
