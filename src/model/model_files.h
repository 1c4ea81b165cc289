/* Model files: where the parts of a model come from: a diffusers folder, or one checkpoint file that is read as if it
 * were such a folder (single_file.h). Parts are named as in the folder: "unet/config.json", "text_encoder". */
#ifndef DRPO_MODEL_MODEL_FILES_H
#define DRPO_MODEL_MODEL_FILES_H

#include "base/arena.h"
#include "base/error.h"
#include "model/tokenizer.h"
#include "model/weights.h"

/* Which model: what --model, --variant and --tokenizer say. Only `path` is needed. */
typedef struct ModelChoice {
    const char *path;      /* folder or file */
    const char *name;      /* what users know it by, when that is not the path: a repository id */
    const char *variant;   /* "fp16": files that are called so */
    const char *tokenizer; /* folder of the tokenizer, or of a model that has one */
    bool blank;            /* weights are invented (weights_blank), the folder need not have any */
} ModelChoice;

typedef struct ModelFiles ModelFiles;

int model_files_open(const ModelChoice *choice, ModelFiles **out, Error *err);
void model_files_close(ModelFiles *f); /* NULL is fine */
bool model_is_folder(const ModelFiles *f);
/* A JSON document as document_load takes it; it stays until model_files_close. A part that is missing is an error. */
int model_document(const ModelFiles *f, const char *name, const char **document, Error *err);
/* Folder of "tokenizer" or "tokenizer_2". */
int model_tokenizer_folder(const ModelFiles *f, const char *component, const char **folder, Error *err);
int model_tokenizer(const ModelFiles *f, const char *component, Tokenizer **out, Error *err);
/* stem: the file's name in the component's folder, as for weights_open */
int model_weights(const ModelFiles *f, const char *component, const char *stem, Weights **out, Error *err);

#endif
