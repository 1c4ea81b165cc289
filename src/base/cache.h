/* Cache: a folder for what can be made again, and a fingerprint of large files that is remembered there. */
#ifndef DRPO_BASE_CACHE_H
#define DRPO_BASE_CACHE_H

#include "base/file.h"

/* $XDG_CACHE_HOME/drpo, else ~/.cache/drpo; NULL: neither is set. It may not exist yet. */
const char *cache_folder(Arena *a);
/* sha256_file, but of a large file only once, as long as its path, size, time of change and inode stay as they are. */
int cached_sha256(const char *path, char hex[65], Error *err);

#endif
