/* The verb `eval`: draws fixed prompts from fixed noises with the base and with the adapter, scores both, and prints
 * one table. See verb_eval.h.
 *
 * Picture j of prompt i has noise number i * seeds + j, the same for both models, so that their difference is paired.
 */
#include "eval/verb_eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "format/jsonl.h"
#include "step/reward/scene.h"
#include "train/memory.h"
#include "train/session.h"

enum { BASE, TUNED, SIDES, GRID_PROMPTS = 12, GRID_SEEDS = 6 };

typedef struct Evaluation {
    const Job *job;
    EvalBase *known; /* NULL: the base is nobody else's */
    Session session;
    Adapter *adapter; /* NULL: the base alone */
    Sampler *sampler;
    NoiseSource *noise;
    RewardSet rewards, heldout;
    PromptList prompts;
    EvalTable table[SIDES];
    bool *failed; /* [prompts]: no reward could score it for one of the models, and --on-reward-error says skip */
    Grid grid;
    const char *out; /* folder, "": none */
    JsonlWriter scores;
    int seeds, height, width;
    size_t latent_count; /* C*h*w */
    float *z, *latents;  /* [seeds,C,h,w] */
    uint8_t *rgb;        /* [seeds,H,W,3] */
    float *raw;          /* [rewards and those held out,seeds] */
} Evaluation;

static int allocate(Evaluation *e, Error *err) {
    size_t n = (size_t)e->seeds, rows = e->prompts.count < GRID_PROMPTS ? e->prompts.count : GRID_PROMPTS;
    const Pipeline *p = e->session.pipeline;
    int side;
    TRY(pipeline_latent_side(p, (int)config_int(e->job->config, OPT_RESOLUTION), &side, err));
    e->height = e->width = side * p->factor;
    e->latent_count = (size_t)p->latent_channels * (size_t)side * (size_t)side;
    e->failed = calloc(e->prompts.count, sizeof *e->failed);
    e->z = malloc(n * e->latent_count * sizeof *e->z);
    e->latents = malloc(n * e->latent_count * sizeof *e->latents);
    e->rgb = malloc(n * (size_t)e->height * (size_t)e->width * 3);
    e->raw = malloc(n * (size_t)e->table[BASE].rewards * sizeof *e->raw);
    if (!e->failed || !e->z || !e->latents || !e->rgb || !e->raw)
        return fail(err, DRPO_E_MEMORY, "out of memory for %d pictures", e->seeds);
    int columns = e->seeds < GRID_SEEDS ? e->seeds : GRID_SEEDS;
    return grid_new(&e->grid, (int)rows, columns, e->adapter ? SIDES : 1, e->height, e->width, err);
}

/* --out, or the folder eval/ of the run that --lora names. */
static int choose_out(Evaluation *e, Error *err) {
    const Config *c = e->job->config;
    Arena *a = e->session.arena;
    e->out = config_text(c, OPT_EVAL_OUT);
    if (e->out[0] == 0) {
        float scale;
        const char *run = adapter_split(config_text(c, OPT_LORA), &scale, a);
        const char *saved = run && run[0] ? path_join(a, run, "config.yaml") : NULL;
        if (saved && file_exists(saved)) e->out = path_join(a, run, "eval");
    }
    return e->out ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
}

/* With the first score, so that a mistake leaves no file behind. */
static int open_scores(Evaluation *e, Error *err) {
    TRY(dir_make(e->out, err));
    const char *path = path_join(e->session.arena, e->out, "scores.jsonl");
    return path ? jsonl_open(&e->scores, path, 0, err) : fail(err, DRPO_E_MEMORY, "out of memory");
}

/* Held-out rewards are columns like the others. */
static int open_rewards(Evaluation *e, const char *path, Error *err) {
    TRY(job_rewards(e->job, &e->rewards, err));
    TRY(job_heldout_rewards(e->job, &e->heldout, err));
    TRY(job_rewards_fit(&e->rewards, e->prompts.items, e->prompts.count, path, err));
    TRY(job_rewards_fit(&e->heldout, e->prompts.items, e->prompts.count, path, err));
    const int trained = e->rewards.count, all = trained + e->heldout.count;
    if (all > MAX_REWARDS)
        return fail(err, DRPO_E_USAGE, "--reward and --eval-reward name %d rewards, at most %d are possible", all,
                    MAX_REWARDS);
    for (int side = 0; side < SIDES; side++) e->table[side].rewards = all;
    for (int r = 0; r < all; r++) {
        const Reward *reward = r < trained ? e->rewards.reward[r] : e->heldout.reward[r - trained];
        bool taken = false;
        for (int k = 0; k < r; k++) taken = taken || strcmp(e->table[BASE].reward_name[k], reward->name) == 0;
        for (int side = 0; side < SIDES; side++)
            snprintf(e->table[side].reward_name[r], sizeof e->table[side].reward_name[r], "%.50s%s", reward->name,
                     taken ? "_heldout" : "");
    }
    return 0;
}

static int open_all(Evaluation *e, Error *err) {
    const Config *c = e->job->config;
    PromptList all;
    const char *path, *lora = config_text(c, OPT_LORA);
    TRY(session_open(&e->session, c, err));
    TRY(session_defer(&e->session, c, err));
    TRY(session_prompts(e->session.arena, e->session.pipeline, "prompts", config_text(c, OPT_EVAL_FILE), &e->job->log,
                        &all, &path, err));
    TRY(prompts_spread(&all, (size_t)config_int(c, OPT_EVAL_ALL), e->session.arena, &e->prompts, err));
    if (lora[0]) TRY(adapter_open(e->session.pipeline, lora, &e->adapter, err));
    TRY(open_rewards(e, path, err));
    e->seeds = (int)config_int(c, OPT_SEEDS);
    TRY(allocate(e, err));
    TRY(session_noise(c, (uint64_t)config_int(c, OPT_SEED), e->latent_count, false, &e->noise, err));
    return choose_out(e, err);
}

/* The scene verifier's verdict on every picture; -1 when the prompt is none of the embedded world's. */
static void judge(const Evaluation *e, const Prompt *prompt, int *correct) {
    SceneTask *task = NULL;
    SceneVerdict verdict;
    size_t picture = (size_t)e->height * (size_t)e->width * 3;
    if (prompt->metadata && scene_task_parse(prompt->metadata, &task, NULL) < 0) task = NULL;
    for (int j = 0; j < e->seeds; j++) {
        bool judged =
            task && scene_verify(task, e->rgb + (size_t)j * picture, e->height, e->width, &verdict, NULL) == 0;
        correct[j] = judged ? verdict.correct : -1;
    }
    scene_task_free(task);
}

static int record(Evaluation *e, int i, int side, int j, int correct, const float *rewards, Error *err) {
    const Prompt *prompt = &e->prompts.items[i];
    uint64_t seed = (uint64_t)config_int(e->job->config, OPT_SEED) + (uint64_t)i * (uint64_t)e->seeds + (uint64_t)j;
    TRY(eval_table_add(&e->table[side], i, prompt->tag, seed, correct, rewards, err));
    if (e->out[0] == 0) return 0;
    if (e->scores.fd < 0) TRY(open_scores(e, err));
    json_t *values = json_object();
    for (int r = 0; r < e->table[side].rewards; r++)
        json_object_set_new(values, e->table[side].reward_name[r], json_real(rewards[r]));
    json_t *line = json_pack("{s:s, s:i, s:s, s:s?, s:I, s:o}", "model", side == BASE ? "base" : "tuned", "index", i,
                             "prompt", prompt->text, "tag", prompt->tag, "seed", (json_int_t)seed, "rewards", values);
    if (line && correct >= 0) json_object_set_new(line, "correct", json_boolean(correct));
    int code = line ? jsonl_write(&e->scores, line, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    json_decref(line);
    return code;
}

static int score(Evaluation *e, int i, Error *err) {
    const Prompt *prompt = &e->prompts.items[i];
    const Pictures pictures = {e->rgb, e->seeds, e->height, e->width};
    RewardSet *failing = &e->rewards;
    int code = reward_set_score(&e->rewards, prompt, &pictures, e->raw, NULL, err);
    if (code == 0) {
        failing = &e->heldout;
        code = reward_set_score(&e->heldout, prompt, &pictures, e->raw + e->rewards.count * e->seeds, NULL, err);
    }
    if (code == 0 || !reward_set_forgive(failing, code, err)) return code;
    e->failed[i] = true;
    return 0;
}

/* A prompt that is left out for one model is left out for both: their difference is paired. */
static int leave_out(Evaluation *e, int i, int side, Error *err) {
    const Prompt *prompt = &e->prompts.items[i];
    for (int k = 0; k < SIDES; k++) eval_table_drop(&e->table[k], i);
    if (e->out[0] == 0) return 0;
    if (e->scores.fd < 0) TRY(open_scores(e, err));
    json_t *line = json_pack("{s:s, s:i, s:s, s:s?, s:b}", "model", side == BASE ? "base" : "tuned", "index", i,
                             "prompt", prompt->text, "tag", prompt->tag, "failed", true);
    int code = line ? jsonl_write(&e->scores, line, err) : fail(err, DRPO_E_MEMORY, "out of memory");
    json_decref(line);
    return code;
}

static int run_prompt(Evaluation *e, int i, int side, Error *err) {
    const Prompt *prompt = &e->prompts.items[i];
    size_t picture = (size_t)e->height * (size_t)e->width * 3;
    Arena *a = arena_new();
    int *correct = a ? arena_alloc(a, sizeof *correct * (size_t)e->seeds) : NULL;
    int code = correct ? noise_images(e->noise, (long)i * e->seeds, e->seeds, e->z, err)
                       : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = sampler_run(e->sampler, prompt->text, e->z, e->seeds, e->latents, e->rgb, err);
    for (int j = 0; j < e->grid.columns && i < e->grid.rows && code == 0; j++)
        grid_put(&e->grid, i, side, j, e->rgb + (size_t)j * picture);
    if (code == 0) code = score(e, i, err);
    if (code == 0 && e->failed[i]) {
        arena_free(a);
        return leave_out(e, i, side, err);
    }
    if (code == 0) judge(e, prompt, correct);
    for (int j = 0; j < e->seeds && code == 0; j++) {
        float rewards[MAX_REWARDS];
        for (int r = 0; r < e->table[side].rewards; r++) rewards[r] = e->raw[r * e->seeds + j];
        code = record(e, i, side, j, correct[j], rewards, err);
    }
    if (code == 0) code = eval_table_add_diversity(&e->table[side], i, e->latents, e->seeds, e->latent_count, err);
    arena_free(a);
    return code;
}

static int run_side(Evaluation *e, int side, bool first, Error *err) {
    const Config *c = e->job->config;
    int batch = (int)config_int(c, OPT_BATCH);
    TRY(sampler_new(e->session.pipeline, e->session.backend, side == TUNED ? e->adapter : NULL,
                    batch < e->seeds ? batch : e->seeds, (int)config_int(c, OPT_RESOLUTION),
                    config_choice(c, OPT_X0) == 1, &e->sampler, err));
    int code = 0, n = (int)e->prompts.count;
    if (first) code = memory_fill(e->job, &e->session, &e->prompts, sampler_records(e->sampler), err);
    for (int i = 0; i < n && code == 0; i++) {
        if (job_cancelled(e->job))
            code = fail(err, DRPO_E_CANCELLED, "stopped on request after %d of %d prompts", i, n);
        else if (!e->failed[i])
            code = run_prompt(e, i, side, err);
    }
    sampler_free(e->sampler);
    e->sampler = NULL;
    return code;
}

/* ---- the base, once for several adapters ---- */

static int copy_base_pictures(const Evaluation *e, const Grid *from, Grid *to, Error *err) {
    uint8_t *rgb = malloc((size_t)e->height * (size_t)e->width * 3);
    if (!rgb) return fail(err, DRPO_E_MEMORY, "out of memory");
    for (int row = 0; row < to->rows; row++)
        for (int column = 0; column < to->columns; column++) {
            grid_get(from, row, BASE, column, rgb);
            grid_put(to, row, BASE, column, rgb);
        }
    free(rgb);
    return 0;
}

static int keep_base(Evaluation *e, EvalBase *out, Error *err) {
    const Grid *from = &e->grid;
    for (size_t i = 0; i < e->prompts.count; i++)
        if (e->failed[i]) return 0;
    int code = eval_table_copy(&e->table[BASE], &out->table, err);
    if (code == 0) code = grid_new(&out->grid, from->rows, from->columns, 1, e->height, e->width, err);
    if (code == 0) code = copy_base_pictures(e, from, &out->grid, err);
    if (code < 0) eval_base_free(out);
    return code;
}

static int recall_base(Evaluation *e, const EvalBase *from, Error *err) {
    const EvalTable *t = &from->table;
    const size_t seeds = (size_t)e->seeds;
    int code = 0;
    for (size_t k = 0; k < t->rows && code == 0; k++)
        code = record(e, (int)(k / seeds), BASE, (int)(k % seeds), t->row[k].correct, t->row[k].reward, err);
    if (code == 0) code = eval_table_copy(t, &e->table[BASE], err);
    return code < 0 ? code : copy_base_pictures(e, &from->grid, &e->grid, err);
}

static int run_base(Evaluation *e, Error *err) {
    EvalBase *known = e->known;
    if (known && known->table.rows == e->prompts.count * (size_t)e->seeds) return recall_base(e, known, err);
    TRY(run_side(e, BASE, true, err));
    if (!known) return 0;
    eval_base_free(known);
    return keep_base(e, known, err);
}

void eval_base_free(EvalBase *b) {
    eval_table_free(&b->table);
    grid_free(&b->grid);
    *b = (EvalBase){.table.rows = 0};
}

static int write_folder(Evaluation *e, const EvalSummary *summary, const char *text, Error *err) {
    Arena *a = e->session.arena;
    const char *table = path_join(a, e->out, "table.json"), *lines = path_join(a, e->out, "table.txt");
    const char *grid = path_join(a, e->out, "grid.png");
    json_t *root = eval_summary_json(summary);
    int code = table && lines && grid && root ? 0 : fail(err, DRPO_E_MEMORY, "out of memory");
    if (code == 0) code = json_save_path(table, root, err);
    if (code == 0) code = file_write_atomic(lines, text, strlen(text), err);
    if (code == 0) code = grid_write(&e->grid, grid, NULL, 0, err);
    json_decref(root);
    if (code == 0) log_info(&e->job->log, "%s: table.json, table.txt, scores.jsonl, grid.png", e->out);
    return code;
}

static int evaluate(Evaluation *e, Error *err) {
    EvalSummary summary;
    TRY(config_check(e->job->config, err));
    TRY(open_all(e, err));
    bool recalled = e->known && e->known->table.rows;
    TRY(run_base(e, err));
    if (e->adapter) TRY(run_side(e, TUNED, recalled, err));
    size_t failed = 0;
    for (size_t i = 0; i < e->prompts.count; i++) failed += e->failed[i];
    if (failed == e->prompts.count) return fail(err, DRPO_E_REWARD, "none of the %zu prompts could be scored", failed);
    TRY(eval_summarise(&e->table[BASE], e->adapter ? &e->table[TUNED] : NULL,
                       (uint64_t)config_int(e->job->config, OPT_SEED), &summary, err));
    summary.failed = failed;
    char *text = eval_summary_text(&summary);
    if (!text) return fail(err, DRPO_E_MEMORY, "out of memory");
    size_t length = strlen(text);
    int code = e->out[0] ? write_folder(e, &summary, text, err) : 0;
    if (length && text[length - 1] == '\n') text[length - 1] = 0;
    if (code == 0) job_result(e->job, "%s", text);
    free(text);
    return code;
}

int verb_eval(const Job *job, Error *err) { return verb_eval_beside(job, NULL, err); }

int verb_eval_beside(const Job *job, EvalBase *base, Error *err) {
    Evaluation e = {.job = job, .known = base, .scores = {.fd = -1}};
    int code = evaluate(&e, err);
    jsonl_close(&e.scores);
    for (int side = 0; side < SIDES; side++) eval_table_free(&e.table[side]);
    grid_free(&e.grid);
    reward_set_close(&e.rewards);
    reward_set_close(&e.heldout);
    if (e.noise) noise_close(e.noise);
    if (e.adapter) lora_free(e.adapter);
    free(e.failed);
    free(e.z);
    free(e.latents);
    free(e.rgb);
    free(e.raw);
    session_close(&e.session);
    return code;
}
