/* PyTorch checkpoints (torch.save since 1.6: .pt, .pth, .bin) as tables of tensors, read like safetensors.
 *
 * Nothing in the file is executed: the pickle is read as data (pickle.h), and only names that describe tensors and
 * plain values are known; any other is refused. Tensors stay in the mapped file; those that are not contiguous
 * (transposed, say) are copied in order. The tensors are those of the outermost dictionary that holds any; when it
 * holds none itself, of the one inside it that is called state_dict, model, ... Their names are the keys, joined by
 * dots. */
#ifndef DRPO_FORMAT_TORCH_PICKLE_H
#define DRPO_FORMAT_TORCH_PICKLE_H

#include "format/safetensors.h"

/* `root`: key of the dictionary to read ("ema", "optimizer.state"), NULL: found as above. */
int torch_pickle_open(const char *path, const char *root, SafeFile **out, Error *err);
/* The same for a file that is in memory already and stays there until safetensors_close; `name` is for messages. */
int torch_pickle_open_memory(const char *name, const void *data, size_t size, const char *root, SafeFile **out,
                             Error *err);
/* Tells by its first bytes, whatever its name; false also for files that cannot be read. */
bool torch_pickle_is(const char *path);

#endif
