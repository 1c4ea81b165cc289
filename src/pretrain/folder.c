/* Folders of a pretraining. See folder.h. */
#include "pretrain/folder.h"

#include <string.h>

#include "base/file.h"

static int out_of_memory(Error *err) { return fail(err, DRPO_E_MEMORY, "out of memory"); }

const char *folder_path(const Pretraining *p, const char *name) { return path_join(p->arena, p->out, name); }

int folder_make(Pretraining *p, const char *name, bool anew, FolderFill *fill, Error *err) {
    const char *path = folder_path(p, name), *tmp = path ? arena_printf(p->arena, "%s.tmp", path) : NULL;
    if (!tmp) return out_of_memory(err);
    if (dir_exists(path) && !anew) return 0;
    TRY(dir_remove(tmp, err));
    TRY(dir_make(tmp, err));
    int code = fill(p, tmp, err);
    if (code == 0 && dir_exists(path)) code = dir_remove(path, err);
    if (code == 0) code = dir_commit(tmp, path, err);
    if (code < 0) dir_remove(tmp, NULL);
    return code;
}

int folder_copy(Pretraining *p, const char *from, const char *to, const char *name, Error *err) {
    const char *source = path_join(p->arena, from, name);
    char *target = path_join(p->arena, to, name), *slash = target ? strrchr(target, '/') : NULL;
    MappedFile f;
    if (!source || !slash) return out_of_memory(err);
    *slash = 0;
    TRY(dir_make(target, err));
    *slash = '/';
    TRY(file_map(source, &f, err));
    const int code = file_write_atomic(target, f.data, f.size, err);
    file_unmap(&f);
    return code;
}

int folder_copy_all(Pretraining *p, const char *from, const char *to, const char *const *names, int n, Error *err) {
    for (int i = 0; i < n; i++) TRY(folder_copy(p, from, to, names[i], err));
    return 0;
}
