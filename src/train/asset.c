/* Assets: where the embedded generator, feature networks and prompts are found. See config.h. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "train/config.h"

#ifndef DRPO_SOURCE_ASSETS
#define DRPO_SOURCE_ASSETS ""
#endif

static const char *beside_program(const char *below, Arena *a) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) return "";
    path[n] = 0;
    char *slash = strrchr(path, '/');
    if (!slash) return "";
    *slash = 0;
    const char *found = arena_printf(a, "%s/%s", path, below);
    return found ? found : "";
}

const char *asset_find(const char *name, Arena *a) {
    if (name[0] == 0 || name[0] == '/' || file_exists(name) || dir_exists(name)) return name;
    const char *set = getenv("DRPO_ASSETS");
    const char *roots[] = {set ? set : "", beside_program("../assets", a), beside_program("../share/drpo/assets", a),
                           DRPO_SOURCE_ASSETS};
    const char *below = strncmp(name, "assets/", 7) == 0 ? name + 7 : name;
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        if (roots[i][0] == 0) continue;
        const char *path = path_join(a, roots[i], below);
        if (path && (file_exists(path) || dir_exists(path))) return path;
    }
    return name;
}
