/* The verb `geneval`: draws n pictures of every prompt, has them judged, and counts. See verb_geneval.h.
 *
 *     open -> for each prompt: draw what is missing -> judge what has no verdict -> table per tag
 *
 * Whatever stands in the folder is not made again. Picture j of every prompt has seed + j. */
#include "eval/verb_geneval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "eval/geneval_folder.h"
#include "eval/table.h"
#include "format/json.h"
#include "format/png.h"
#include "step/reward/geneval_reward.h"
#include "train/memory.h"
#include "train/picture_text.h"
#include "train/session.h"

typedef struct Benchmark {
    const Job *job;
    Session session;
    PromptList all, chosen;
    GenevalFolder folder;
    Reward *judge; /* NULL: pictures are only drawn */
    Adapter *adapter;
    Sampler *sampler; /* NULL until something has to be drawn */
    NoiseSource *noise;
    PictureText text;
    long per_prompt; /* noise of prompt p begins at image p * per_prompt */
    int n, height, width;
    size_t latent_count; /* C*h*w */
    float *z;            /* [n,C,h,w] */
    uint8_t *rgb;        /* [n,H,W,3] */
} Benchmark;

/* ---- opening ---- */

/* What decides how the pictures look. */
static json_t *describe(const Benchmark *b, const char *prompts) {
    const Config *c = b->job->config;
    char lora[65] = "";
    if (b->adapter) sha256_hex(b->adapter->values, b->adapter->count * sizeof(float), lora);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:s, s:s, s:i, s:I}", "prompts", prompts, "model",
                     pipeline_sha256(b->session.pipeline), "lora", lora, "lora-scale",
                     b->adapter ? config_text(c, OPT_LORA) : "", "seed", (json_int_t)config_int(c, OPT_SEED), "rng",
                     config_text(c, OPT_RNG), "cuda-blocks", (json_int_t)config_int(c, OPT_CUDA_BLOCKS), "generator",
                     config_text(c, OPT_GENERATOR), "x0", config_text(c, OPT_X0), "n", b->n, "resolution",
                     (json_int_t)config_int(c, OPT_RESOLUTION));
}

static int open_folder(Benchmark *b, const char *path, Error *err) {
    const Config *c = b->job->config;
    char hash[65];
    TRY(sha256_file(path, hash, err));
    json_t *made = describe(b, hash);
    if (!made) return fail(err, DRPO_E_MEMORY, "out of memory");
    const int code = geneval_folder_open(config_text(c, OPT_GENEVAL_OUT), made, config_text(c, OPT_JUDGE), b->all.count,
                                         b->n, b->session.arena, &b->folder, err);
    json_decref(made);
    return code;
}

static int open_judge(Benchmark *b, const char *path, Error *err) {
    const char *spec = config_text(b->job->config, OPT_JUDGE);
    if (!*spec) return 0;
    TRY(reward_open(spec, b->job->rewards, b->job->n_rewards, &b->judge, err));
    const RewardSet one = {.reward = {b->judge}, .count = 1};
    return job_rewards_fit(&one, b->all.items, b->all.count, path, err);
}

static int open_noise(Benchmark *b, Error *err) {
    const Config *c = b->job->config;
    TRY(session_noise(c, (uint64_t)config_int(c, OPT_SEED), b->latent_count, false, &b->noise, err));
    b->per_prompt = config_choice(c, OPT_GENERATOR) == GENERATOR_RUN ? b->n : 0;
    return session_generator(c, b->noise, b->all.count, (size_t)b->n, err);
}

static int open_all(Benchmark *b, Error *err) {
    const Config *c = b->job->config;
    Session *s = &b->session;
    const char *path, *lora = config_text(c, OPT_LORA);
    b->n = (int)config_int(c, OPT_GENEVAL_COUNT);
    TRY(session_open(s, c, err));
    TRY(session_defer(s, c, err));
    TRY(session_prompts(s->arena, s->pipeline, "prompts", config_text(c, OPT_GENEVAL_FILE), &b->job->log, &b->all,
                        &path, err));
    TRY(prompts_spread(&b->all, (size_t)config_int(c, OPT_EVAL_ALL), s->arena, &b->chosen, err));
    if (lora[0]) TRY(adapter_open(s->pipeline, lora, &b->adapter, err));
    int side;
    TRY(pipeline_latent_side(s->pipeline, (int)config_int(c, OPT_RESOLUTION), &side, err));
    b->height = b->width = side * s->pipeline->factor;
    b->latent_count = (size_t)s->pipeline->latent_channels * (size_t)side * (size_t)side;
    b->z = malloc((size_t)b->n * b->latent_count * sizeof *b->z);
    b->rgb = malloc((size_t)b->n * (size_t)b->height * (size_t)b->width * 3);
    if (!b->z || !b->rgb) return fail(err, DRPO_E_MEMORY, "out of memory for %d pictures", b->n);
    TRY(open_noise(b, err));
    TRY(picture_text_open(&b->text, s->pipeline, lora, s->arena, err));
    TRY(open_judge(b, path, err));
    return open_folder(b, path, err);
}

/* ---- one prompt ---- */

static int write_picture(Benchmark *b, size_t prompt, int j, Error *err) {
    const Config *c = b->job->config;
    Arena *a = b->session.arena;
    const bool own_seed = config_choice(c, OPT_GENERATOR) == GENERATOR_PICTURE;
    const char *path = geneval_folder_picture(&b->folder, prompt, j);
    char *parameters = picture_text(&b->text, a, b->all.items[prompt].text,
                                    config_int(c, OPT_SEED) + (own_seed ? j : 0), b->width, b->height);
    if (!path || !parameters) return fail(err, DRPO_E_MEMORY, "out of memory");
    if (file_exists(path)) return 0;
    const TextPair pair = {"parameters", parameters};
    return png_write_rgb(path, b->rgb + (size_t)j * (size_t)b->height * (size_t)b->width * 3, b->width, b->height,
                         &pair, 1, err);
}

static int draw(Benchmark *b, size_t prompt, Error *err) {
    const Config *c = b->job->config;
    int there = 0, batch = (int)config_int(c, OPT_BATCH);
    for (int j = 0; j < b->n; j++) {
        const char *path = geneval_folder_picture(&b->folder, prompt, j);
        there += path && file_exists(path);
    }
    if (there == b->n) return 0;
    if (!b->sampler) {
        TRY(sampler_new(b->session.pipeline, b->session.backend, b->adapter, batch < b->n ? batch : b->n,
                        (int)config_int(c, OPT_RESOLUTION), config_choice(c, OPT_X0) == 1, &b->sampler, err));
        TRY(memory_fill(b->job, &b->session, &b->chosen, sampler_records(b->sampler), err));
    }
    TRY(noise_images(b->noise, (long)prompt * b->per_prompt, b->n, b->z, err));
    TRY(sampler_run(b->sampler, b->all.items[prompt].text, b->z, b->n, NULL, b->rgb, err));
    for (int j = 0; j < b->n; j++) TRY(write_picture(b, prompt, j, err));
    return 0;
}

/* The pictures as they stand in the folder: what is judged is what anyone else can judge. */
static int load(Benchmark *b, size_t prompt, Error *err) {
    const size_t size = (size_t)b->height * (size_t)b->width * 3;
    for (int j = 0; j < b->n; j++) {
        Image image;
        const char *path = geneval_folder_picture(&b->folder, prompt, j);
        if (!path) return fail(err, DRPO_E_MEMORY, "out of memory");
        TRY(image_read(path, &image, err));
        const bool fits = image.height == b->height && image.width == b->width;
        if (fits) memcpy(b->rgb + (size_t)j * size, image.rgb, size);
        image_free(&image);
        if (!fits) return fail(err, DRPO_E_INPUT, "%s: is not %d x %d pixels", path, b->width, b->height);
    }
    return 0;
}

/* Other rewards than GenEval's decide by half of their range and give no reason. */
static int ask(Benchmark *b, const Prompt *prompt, const Pictures *pictures, GenevalResult *results, Error *err) {
    if (geneval_reward_is(b->judge)) return geneval_reward_judge(b->judge, prompt, pictures, results, err);
    float *scores = malloc((size_t)pictures->count * sizeof *scores);
    int code = scores ? reward_score(b->judge, prompt, pictures, scores, NULL, err)
                      : fail(err, DRPO_E_MEMORY, "out of memory");
    for (int j = 0; j < pictures->count && code == 0; j++) results[j].verdict.correct = scores[j] >= 0.5f;
    free(scores);
    return code;
}

static int judge(Benchmark *b, size_t prompt, Error *err) {
    int judged = 0;
    for (int j = 0; j < b->n; j++) judged += *geneval_folder_verdict(&b->folder, prompt, j) >= 0;
    if (judged == b->n) return 0;
    const Prompt *text = &b->all.items[prompt];
    const Pictures pictures = {b->rgb, b->n, b->height, b->width};
    GenevalResult *results = calloc((size_t)b->n, sizeof *results);
    int code = results ? load(b, prompt, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = ask(b, text, &pictures, results, err);
    for (int j = 0; j < b->n && results; j++) {
        if (code == 0 && *geneval_folder_verdict(&b->folder, prompt, j) < 0)
            code = geneval_folder_row(&b->folder, prompt, j, text, results[j].verdict.correct,
                                      results[j].verdict.reason, results[j].details, err);
        free(results[j].details);
    }
    free(results);
    return code;
}

/* ---- all of them ---- */

static size_t place_of(const Benchmark *b, const Prompt *prompt) {
    size_t i = 0;
    while (b->all.items[i].text != prompt->text) i++;
    return i;
}

static void report_progress(const Benchmark *b, size_t done) {
    const drpo_callbacks *c = b->job->callbacks;
    char line[64];
    snprintf(line, sizeof line, "prompt %zu/%zu", done, b->chosen.count);
    const drpo_progress p = {.step = (int)done, .steps = (int)b->chosen.count, .line = line};
    if (c && c->progress) c->progress(c->user, &p);
}

static int run_prompts(Benchmark *b, Error *err) {
    for (size_t k = 0; k < b->chosen.count; k++) {
        const size_t prompt = place_of(b, &b->chosen.items[k]);
        if (job_cancelled(b->job))
            return fail(err, DRPO_E_CANCELLED, "stopped on request after %zu of %zu prompts; the same command goes on",
                        k, b->chosen.count);
        TRY(geneval_folder_prompt(&b->folder, prompt, &b->all.items[prompt], err));
        TRY(draw(b, prompt, err));
        if (b->judge) TRY(judge(b, prompt, err));
        report_progress(b, k + 1);
    }
    return b->judge ? jsonl_sync(&b->folder.results, err) : 0;
}

/* Pictures that are right, and prompts of which one picture is. */
static void count_correct(const Benchmark *b, size_t *pictures, size_t *prompts) {
    *pictures = *prompts = 0;
    for (size_t k = 0; k < b->chosen.count; k++) {
        const size_t prompt = place_of(b, &b->chosen.items[k]);
        int correct = 0;
        for (int j = 0; j < b->n; j++) correct += *geneval_folder_verdict(&b->folder, prompt, j);
        *pictures += (size_t)correct;
        *prompts += correct > 0;
    }
}

static int fill_table(const Benchmark *b, EvalTable *t, Error *err) {
    for (size_t k = 0; k < b->chosen.count; k++) {
        const size_t prompt = place_of(b, &b->chosen.items[k]);
        for (int j = 0; j < b->n; j++)
            TRY(eval_table_add(t, (int)prompt, b->all.items[prompt].tag ? b->all.items[prompt].tag : "all", (uint64_t)j,
                               *geneval_folder_verdict(&b->folder, prompt, j), NULL, err));
    }
    return 0;
}

static int write_summary(const Benchmark *b, const EvalSummary *s, size_t right, size_t solved, Error *err) {
    const char *path = path_join(b->session.arena, b->folder.path, "summary.json");
    json_t *root = eval_summary_json(s);
    int bad = !path || !root;
    bad = bad || json_object_set_new(root, "images_correct", json_integer((json_int_t)right)) < 0 ||
          json_object_set_new(root, "prompts_with_a_correct_image", json_integer((json_int_t)solved)) < 0;
    const int code = bad ? fail(err, DRPO_E_MEMORY, "out of memory") : json_save_path(path, root, err);
    json_decref(root);
    return code;
}

static int summarise(const Benchmark *b, Error *err) {
    EvalTable table = {0};
    EvalSummary summary;
    size_t right, solved;
    int code = fill_table(b, &table, err);
    if (code == 0) code = eval_summarise(&table, NULL, (uint64_t)config_int(b->job->config, OPT_SEED), &summary, err);
    eval_table_free(&table);
    TRY(code);
    count_correct(b, &right, &solved);
    TRY(write_summary(b, &summary, right, solved, err));
    char *text = eval_summary_text(&summary);
    if (!text) return fail(err, DRPO_E_MEMORY, "out of memory");
    job_result(b->job, "%scorrect images: %zu of %zu; prompts with a correct image: %zu of %zu", text, right,
               summary.images, solved, b->chosen.count);
    free(text);
    return 0;
}

int verb_geneval(const Job *job, Error *err) {
    Benchmark b = {.job = job, .folder = {.results = {.fd = -1}}};
    int code = config_check(job->config, err);
    if (code == 0) code = open_all(&b, err);
    if (code == 0) code = run_prompts(&b, err);
    if (code == 0 && b.judge) code = summarise(&b, err);
    if (code == 0 && !b.judge) job_result(job, "%s", b.folder.path);
    geneval_folder_close(&b.folder);
    reward_close(b.judge);
    if (b.sampler) sampler_free(b.sampler);
    if (b.noise) noise_close(b.noise);
    if (b.adapter) lora_free(b.adapter);
    free(b.z);
    free(b.rgb);
    session_close(&b.session);
    return code;
}
