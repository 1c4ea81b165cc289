/* Model card: written from what the run recorded. See model_card.h. */
#include "train/model_card.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/jsonl.h"

enum { CURVE_POINTS = 10, CARD_LIMIT = 1 << 20 };

typedef struct Curve {
    FILE *out;
    long steps;
} Curve;

static double number(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

/* About ten lines of the reward curve, the first and last among them. */
static int print_update(void *user, const json_t *value, const char *text, int line, Error *err) {
    (void)text;
    (void)line;
    (void)err;
    const Curve *c = user;
    long step = (long)json_integer_value(json_object_get(value, "step")),
         every = (c->steps + CURVE_POINTS - 1) / CURVE_POINTS;
    if (step != 1 && step != c->steps && (every == 0 || step % every != 0)) return 0;
    fprintf(c->out, "| %ld | %.4f | %.4f | %.4f | %.3g |\n", step, number(value, "reward"),
            number(value, "reward_best"), number(value, "diversity"), number(value, "lr"));
    return 0;
}

static int print_evaluation(void *user, const json_t *value, const char *text, int line, Error *err) {
    (void)text;
    (void)line;
    (void)err;
    const Curve *c = user;
    const json_t *reward = json_object_get(value, "reward");
    fprintf(c->out, "| %ld | %.4f | %.4f |\n", (long)json_integer_value(json_object_get(value, "step")),
            number(reward, "base"), number(reward, "tuned"));
    return 0;
}

/* A YAML double-quoted scalar. */
static void print_quoted(FILE *f, const char *text) {
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static void print_full_head(FILE *f, const ModelCard *c) {
    fprintf(f, "---\nbase_model: ");
    print_quoted(f, c->base_model);
    fprintf(f, "\nbase_model_relation: finetune\nlibrary_name: diffusers\npipeline_tag: text-to-image\n"
               "tags:\n- text-to-image\n- stable-diffusion\n- diffusers\n- drpo\n---\n\n");
    fprintf(f, "# UNet trained with Drifting Preference Optimization\n\n");
    fprintf(f, "%ld updates of all weights toward %s. Sample with one step and guidance off.\n\n", c->steps,
            c->rewards);
}

static void print_adapter_head(FILE *f, const ModelCard *c) {
    fprintf(f, "---\nbase_model: ");
    print_quoted(f, c->base_model);
    fprintf(f, "\nbase_model_relation: adapter\nlibrary_name: peft\npipeline_tag: text-to-image\n"
               "tags:\n- text-to-image\n- stable-diffusion\n- diffusers\n- lora\n- drpo\n---\n\n");
    fprintf(f, "# LoRA trained with Drifting Preference Optimization\n\n");
    fprintf(f, "%ld updates toward %s, rank %d, alpha %g. Sample with one step and guidance off.\n\n", c->steps,
            c->rewards, c->rank, c->alpha);
}

static void print_head(FILE *f, const ModelCard *c) {
    (c->rank ? print_adapter_head : print_full_head)(f, c);
    if (c->weights) fprintf(f, "These weights are %s.\n\n", c->weights);
    fprintf(f, "## Command\n\n```sh\n%s\n```\n\n## Hashes (SHA-256)\n\n| what | hash |\n|---|---|\n", c->command);
    fprintf(f, "| UNet of the base | `%s` |\n| options | `%s` |\n| prompts `%s` | `%s` |\n\n", c->base_sha256,
            c->config_sha256, c->prompts, c->prompts_sha256);
}

static void print_use_peft(FILE *f) {
    fprintf(f, "\n## Use\n\n```python\nfrom diffusers import DiffusionPipeline\nfrom peft import PeftModel\n\n"
               "pipe = DiffusionPipeline.from_pretrained(BASE)\npipe.unet = PeftModel.from_pretrained(pipe.unet, "
               "THIS_FOLDER)\n"
               "image = pipe(prompt, num_inference_steps=1, guidance_scale=0).images[0]\n```\n\n"
               "`drpo export` writes it for diffusers' `load_lora_weights`, for kohya-style programs, or merged into "
               "the model.\n");
}

static void print_use_file(FILE *f, const char *file, bool kohya) {
    fprintf(f, "\n## Use\n\n");
    if (kohya)
        fprintf(f,
                "ComfyUI: put `%s` into `models/loras`, a LoRA loader behind the base's checkpoint, one step, cfg 1. "
                "diffusers reads it too:\n\n",
                file);
    fprintf(f,
            "```python\nfrom diffusers import DiffusionPipeline\n\npipe = DiffusionPipeline.from_pretrained(BASE)\n"
            "pipe.load_lora_weights(THIS_FOLDER, weight_name=\"%s\")\n"
            "image = pipe(prompt, num_inference_steps=1, guidance_scale=0).images[0]\n```\n",
            file);
}

static void print_use(FILE *f, const ModelCard *c) {
    if (!c->rank) {
        fprintf(f, "\n## Use\n\n```python\nfrom diffusers import DiffusionPipeline, UNet2DConditionModel\n\n"
                   "unet = UNet2DConditionModel.from_pretrained(THIS_FOLDER, subfolder=\"unet\")\n"
                   "pipe = DiffusionPipeline.from_pretrained(BASE, unet=unet)\n"
                   "image = pipe(prompt, num_inference_steps=1, guidance_scale=0).images[0]\n```\n");
        return;
    }
    print_use_peft(f);
}

static int print_curves(FILE *f, const ModelCard *c, Error *err) {
    char path[PATH_MAX];
    Curve curve = {f, c->steps};
    fprintf(f, "## Training reward\n\n| step | mean | best | diversity | lr |\n|---|---|---|---|---|\n");
    snprintf(path, sizeof path, "%s/metrics.jsonl", c->run);
    TRY(jsonl_read(path, print_update, &curve, err));
    snprintf(path, sizeof path, "%s/eval.jsonl", c->run);
    fprintf(f, "\n## Evaluation at fixed prompts and noises\n\n| step | base | tuned |\n|---|---|---|\n");
    return jsonl_read(path, print_evaluation, &curve, err);
}

int model_card_write(const ModelCard *card, const char *folder, Error *err) {
    char path[PATH_MAX], *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return fail(err, DRPO_E_MEMORY, "out of memory for the model card");
    print_head(f, card);
    int code = print_curves(f, card, err);
    print_use(f, card);
    if (fclose(f) != 0 && code == 0) code = fail(err, DRPO_E_MEMORY, "out of memory for the model card");
    snprintf(path, sizeof path, "%s/README.md", folder);
    if (code == 0) code = file_write_atomic(path, text, size, err);
    free(text);
    return code;
}

/* ---- copies ---- */

/* Everything before "## Use"; a file is for diffusers, not for PEFT. */
static void print_copied(FILE *f, const char *card, const CardCopy *c) {
    static const char peft[] = "library_name: peft\n", use[] = "\n## Use\n";
    const char *end = strstr(card, use), *library = strstr(card, peft);
    if (!end) end = card + strlen(card);
    if (c->file && library && library < end) {
        fprintf(f, "%.*slibrary_name: diffusers\n", (int)(library - card), card);
        card = library + strlen(peft);
    }
    fprintf(f, "%.*s", (int)(end - card), card);
    if (c->file)
        print_use_file(f, c->file, c->kohya);
    else
        print_use_peft(f);
}

int model_card_copy(const CardCopy *c, Arena *a, bool *stays, Error *err) {
    const char *from = path_join(a, c->from, "README.md"), *to = path_join(a, c->folder, "README.md");
    char *card, *text = NULL;
    size_t size = 0;
    *stays = false;
    if (!from || !to) return fail(err, DRPO_E_MEMORY, "out of memory for the model card");
    if (!file_exists(from)) return 0;
    *stays = file_exists(to);
    if (*stays) return 0;
    TRY(file_read_text(from, CARD_LIMIT, a, &card, &size, err));
    FILE *f = open_memstream(&text, &size);
    if (!f) return fail(err, DRPO_E_MEMORY, "out of memory for the model card");
    print_copied(f, card, c);
    int code = fclose(f) == 0 ? file_write_atomic(to, text, size, err)
                              : fail(err, DRPO_E_MEMORY, "out of memory for the model card");
    free(text);
    return code;
}
