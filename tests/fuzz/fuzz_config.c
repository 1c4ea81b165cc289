/* Any bytes as a component's config.json or as a YAML configuration: refused, or read within the limits of its struct.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format/yaml.h"
#include "model/clip_text.h"
#include "model/latent_resnet.h"
#include "model/unet.h"
#include "model/vae.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count_entry(void *user, const char *key, const char *value, int line, Error *err) {
    (void)err;
    if (!key || !value || line < 1) abort();
    ++*(int *)user;
    return 0;
}

static int read_as(unsigned kind, const char *path, Error *err) {
    union {
        UnetConfig unet;
        VaeConfig vae;
        ClipTextConfig text;
        LatentResnetConfig resnet;
        int entries;
    } out = {0};
    switch (kind % 5) {
    case 0: return unet_config_read(path, &out.unet, err);
    case 1: return vae_config_read(path, &out.vae, err);
    case 2: return clip_text_config_read(path, &out.text, err);
    case 3: return latent_resnet_config_read(path, &out.resnet, err);
    default: return yaml_read(path, count_entry, &out.entries, err);
    }
}

/* The first byte chooses the reader, the others are the file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    int fd = memfd_create("config", 0);
    if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    Error err = {0};
    int code = read_as(data[0], path, &err);
    if (code > 0 || (code < 0) != (err.code < 0) || (code < 0 && !err.text[0])) abort();
    close(fd);
    return 0;
}
