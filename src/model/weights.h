/* Weights of one component: tensors of safetensors files by name, each wanted exactly once by the network that owns
 * them.
 *
 * weights_get is the only way to a weight. Asking for a missing tensor or another shape is remembered, not fatal, so
 * that a builder may ask for all (it returns NULL, and layers hand the reason to their graph); weights_finish reports
 * the first such mistake, or any tensor that nobody asked for. Repeated calls for one name return the same Param, so
 * that many graphs share it. */
#ifndef DRPO_MODEL_WEIGHTS_H
#define DRPO_MODEL_WEIGHTS_H

#include "engine/tensor.h"

struct Arena;
struct Backend;
struct SafeFile;
struct SafeTensor;
typedef struct Weights Weights;

/* Opens FOLDER/<stem>.safetensors, stem "diffusion_pytorch_model" or "model", or the files that
 * FOLDER/<stem>.safetensors.index.json lists; they stay mapped until weights_free. `variant` "fp16": the files that are
 * called so (<stem>.fp16.safetensors); "" or NULL: the plain ones, else those of fp16, else a checkpoint of torch.save
 * (pytorch_model.bin, diffusion_pytorch_model.bin). */
int weights_open(const char *folder, const char *stem, Weights **out, Error *err);
int weights_open_variant(const char *folder, const char *stem, const char *variant, Weights **out, Error *err);
/* One file, whatever its name: safetensors, or a checkpoint of torch.save, which is read without executing anything
 * (format/torch_pickle.h). */
int weights_open_file(const char *path, Weights **out, Error *err);
/* Weights put together by a reader: `tensor` (in file order, final names) and everything it points to live in the arena
 * or in the files. `path` is for messages. */
typedef struct WeightsParts {
    const char *path;
    struct SafeFile **file;
    int files;
    struct SafeTensor *tensor;
    size_t count;
    struct Arena *arena;
} WeightsParts;
/* Maps the one file that all parts come from. The caller has made the arena; NULL is an error here. */
int weights_parts_map(WeightsParts *parts, const char *path, Error *err);
/* Weights that are nowhere: every tensor that is asked for is there, as float16 without values. What a network needs is
 * then listed by weights_at (random_model.h). `path` is for messages. */
int weights_blank(const char *path, Weights **out, Error *err);
/* Takes files and arena over, also on failure. `code`: what the reader came to; below 0 all is given back and `code`
 * returned. */
int weights_from(const WeightsParts *parts, int code, Weights **out, Error *err);
/* safetensors_open or torch_pickle_open, by the file's first bytes; a git-lfs pointer in place of the file is refused
 * with the command that gets it. */
int weights_map(const char *path, struct SafeFile **out, Error *err);
void weights_free(Weights *w);
Param *weights_get(Weights *w, Shape shape, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for a tensor of any rank seen as a matrix: its first dimension by all others. */
Param *weights_get_matrix(Weights *w, int64_t rows, int64_t columns, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Shape of a tensor that nobody knows beforehand; false: there is none of this name, or it has too many dimensions. */
bool weights_shape(const Weights *w, Shape *out, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool weights_has(const Weights *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void weights_ignore(Weights *w, const char *prefix); /* tensors that are known and not needed, e.g. position_ids */
/* Linear layers read 16-bit weights that are got from now on in their stored type (Param.stored). */
void weights_keep_stored(Weights *w);
/* Products with weights that are got from now on are float32 on every backend (Param.precise). */
void weights_keep_precise(Weights *w);
/* Weights that are got from now on are trainable: they point at float32 values that change. */
void weights_train(Weights *w);
const char *weights_mistake(const Weights *w); /* the first wrong weights_get so far, as a sentence; NULL: none */
int weights_finish(Weights *w, Error *err);
/* Name of the first tensor with a value that is infinite or not a number; NULL: all are finite. Reads everything. */
const char *weights_not_finite(const Weights *w);
size_t weights_bytes(const Weights *w); /* of all tensors, as stored */
/* Bytes of the mapped tensors that plans on this backend read where they are. */
size_t weights_in_place(const Weights *w, const struct Backend *b);
/* Of them those of one tensor: a table of which only a few rows are read. */
size_t weights_in_place_of(const Weights *w, const struct Backend *b, const char *name);
/* What was read of the files leaves this process's memory; it comes back when it is read again. */
void weights_drop_pages(const Weights *w);
const char *weights_path(const Weights *w); /* the file; the index of several */
size_t weights_count(const Weights *w);
const struct SafeTensor *weights_at(const Weights *w,
                                    size_t i); /* item of an array in file order, for writing a copy */
/* SHA-256 of the file. Of several: of the lines that `sha256sum FILE...` prints for them, in the order of their names.
 */
int weights_sha256(const Weights *w, char hex[65], Error *err);

#endif
