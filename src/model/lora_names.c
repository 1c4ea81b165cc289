/* Names in LoRA files. Five programs write five spellings of one module; all lose nothing when '.' is written '_', so
 * modules are matched in that form, against diffusers' names and those of the original (LDM) checkpoints. */
#include "model/lora_private.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const struct {
    const char *text;
    LoraPart part;
} SUFFIXES[] = {
    {".lora_A.weight", LORA_DOWN},
    {".lora_B.weight", LORA_UP}, /* PEFT, diffusers, ComfyUI */
    {".lora_A.default.weight", LORA_DOWN},
    {".lora_B.default.weight", LORA_UP}, /* PEFT with its adapter's name */
    {".lora.down.weight", LORA_DOWN},
    {".lora.up.weight", LORA_UP}, /* older diffusers */
    {"_lora.down.weight", LORA_DOWN},
    {"_lora.up.weight", LORA_UP}, /* attention processors, older still */
    {".lora_linear_layer.down.weight", LORA_DOWN},
    {".lora_linear_layer.up.weight", LORA_UP},
    {".lora_down.weight", LORA_DOWN},
    {".lora_up.weight", LORA_UP}, /* kohya */
    {".alpha", LORA_ALPHA},
};

static const char *const PREFIXES[] = {"base_model.model.", "unet.", "diffusion_model.", "lora_unet_", "lora_unet."};

static const char *without_prefixes(const char *key) {
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        size_t length = strlen(PREFIXES[i]);
        if (strncmp(key, PREFIXES[i], length) == 0) return without_prefixes(key + length);
    }
    return key;
}

bool lora_names_module(const char *text, const char *module) {
    size_t length = strlen(module), tail = strlen(text);
    return ends_with(module, text) && (tail == length || module[length - tail - 1] == '.');
}

/* "attn1.processor.to_out" -> "attn1.to_out.0" */
static void modernize(char module[LORA_NAME_LENGTH]) {
    static const char old[] = ".processor.";
    char *at = strstr(module, old);
    if (!at) return;
    memmove(at + 1, at + sizeof old - 1, strlen(at + sizeof old - 1) + 1);
    size_t length = strlen(module);
    if (length > 7 && length < LORA_NAME_LENGTH - 3 && ends_with(module, ".to_out")) strcat(module, ".0");
}

bool lora_key_parse(const char *key, char module[LORA_NAME_LENGTH], LoraPart *part) {
    const char *start = without_prefixes(key);
    size_t length = strlen(start);
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
        size_t tail = strlen(SUFFIXES[i].text);
        if (length <= tail || !ends_with(start, SUFFIXES[i].text)) continue;
        if (length - tail >= LORA_NAME_LENGTH) return false;
        memcpy(module, start, length - tail);
        module[length - tail] = 0;
        *part = SUFFIXES[i].part;
        modernize(module);
        return true;
    }
    return false;
}

static void underscores(char *text) {
    for (; *text; text++)
        if (*text == '.') *text = '_';
}

/* Residual blocks per level of the up half: the original names count blocks through. */
static int resnets_per_level(const Adapter *known) {
    int most = 0, index, end;
    for (int i = 0; i < known->n_pair; i++) {
        const char *module = known->pair[i].module;
        end = 0;
        if (sscanf(module, "up_blocks.0.resnets.%d.%n", &index, &end) == 1 && end && index >= most) most = index + 1;
    }
    return most;
}

/* diffusers "down_blocks.1.attentions.0.X" -> original "input_blocks.4.1.X"; false where the two names agree or none is
 * known */
static bool original_name(const char *module, int per_level, char out[LORA_NAME_LENGTH]) {
    static const char *const fixed[][2] = {{"time_embedding.linear_1", "time_embed.0"},
                                           {"time_embedding.linear_2", "time_embed.2"},
                                           {"add_embedding.linear_1", "label_emb.0.0"},
                                           {"add_embedding.linear_2", "label_emb.0.2"}};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strcmp(module, fixed[i][0]) == 0) return snprintf(out, LORA_NAME_LENGTH, "%s", fixed[i][1]) > 0;
    int level = 0, index = 0, end = 0, n = -1;
    bool down = sscanf(module, "down_blocks.%d.attentions.%d.%n", &level, &index, &end) == 2 && end;
    if (down || (sscanf(module, "up_blocks.%d.attentions.%d.%n", &level, &index, &end) == 2 && end))
        n = snprintf(out, LORA_NAME_LENGTH, "%s_blocks.%d.1.%s", down ? "input" : "output",
                     level * per_level + index + down, module + end);
    else if ((down = sscanf(module, "down_blocks.%d.resnets.%d.time_emb_proj%n", &level, &index, &end) == 2 && end) ||
             (sscanf(module, "up_blocks.%d.resnets.%d.time_emb_proj%n", &level, &index, &end) == 2 && end))
        n = snprintf(out, LORA_NAME_LENGTH, "%s_blocks.%d.0.emb_layers.1", down ? "input" : "output",
                     level * per_level + index + down);
    else if (sscanf(module, "mid_block.attentions.%d.%n", &index, &end) == 1 && end)
        n = snprintf(out, LORA_NAME_LENGTH, "middle_block.1.%s", module + end);
    else if (sscanf(module, "mid_block.resnets.%d.time_emb_proj%n", &index, &end) == 1 && end)
        n = snprintf(out, LORA_NAME_LENGTH, "middle_block.%d.emb_layers.1", 2 * index);
    return n > 0 && n < LORA_NAME_LENGTH;
}

LoraForms *lora_forms(const Adapter *known, Arena *arena) {
    LoraForms *forms = arena_alloc(arena, (size_t)known->n_pair * sizeof *forms);
    int per_level = resnets_per_level(known);
    for (int i = 0; forms && i < known->n_pair; i++) {
        char original[LORA_NAME_LENGTH];
        char *plain = arena_strdup(arena, known->pair[i].module);
        if (!plain) return NULL;
        underscores(plain);
        forms[i].plain = plain;
        if (per_level == 0 || !original_name(known->pair[i].module, per_level, original)) continue;
        underscores(original);
        forms[i].original = arena_strdup(arena, original);
        if (!forms[i].original) return NULL;
    }
    return forms;
}

int lora_forms_find(const LoraForms *forms, int n, const char *module) {
    char text[LORA_NAME_LENGTH];
    if (strlen(module) >= sizeof text) return -1;
    strcpy(text, module);
    underscores(text);
    for (int i = 0; i < n; i++)
        if (strcmp(forms[i].plain, text) == 0 || (forms[i].original && strcmp(forms[i].original, text) == 0)) return i;
    return -1;
}
