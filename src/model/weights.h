/* Weights of one component: tensors of a safetensors file by name, each wanted exactly once by the network that owns
 * them.
 *
 * weights_get is the only way to a weight. Asking for a missing tensor or another shape is remembered, not fatal, so
 * that a builder may ask for all (it returns NULL, and layers hand the reason to their graph); weights_finish reports
 * the first such mistake, or any tensor that nobody asked for. Repeated calls for one name return the same Param, so
 * that many graphs share it. */
#ifndef DRPO_MODEL_WEIGHTS_H
#define DRPO_MODEL_WEIGHTS_H

#include "engine/tensor.h"

typedef struct Weights Weights;

/* Opens FOLDER/<stem>.safetensors, stem "diffusion_pytorch_model" or "model"; the file stays mapped until weights_free.
 */
int weights_open(const char *folder, const char *stem, Weights **out, Error *err);
void weights_free(Weights *w);
Param *weights_get(Weights *w, Shape shape, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool weights_has(const Weights *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void weights_ignore(Weights *w, const char *prefix); /* tensors that are known and not needed, e.g. position_ids */
const char *weights_mistake(const Weights *w);       /* the first wrong weights_get so far, as a sentence; NULL: none */
int weights_finish(Weights *w, Error *err);
size_t weights_bytes(const Weights *w); /* of all tensors, as stored */
const char *weights_path(const Weights *w);
const struct SafeFile *weights_file(const Weights *w); /* its tensors in file order, for writing a changed copy */

#endif
