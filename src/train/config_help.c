/* Config: help texts and docs/flags.md, made from the table. See config.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/config.h"
#include "train/config_value.h"

typedef struct VerbHelp {
    const char *synopsis, *text;
} VerbHelp;

static const VerbHelp verb_help[DRPO_VERBS] = {
    [DRPO_TRAIN] = {"[OPTIONS]", "Finetune a generator toward a reward. Without options: the embedded generator, its "
                                 "prompts and its verifier."},
    [DRPO_SAMPLE] = {"--prompt TEXT [OPTIONS]", "Make pictures."},
    [DRPO_SCORE] = {"--reward SPEC (IMAGE... | --manifest FILE)", "Score pictures; one JSON line each."},
    [DRPO_EVAL] = {"[--lora PATH] [OPTIONS]",
                   "Score fixed prompts and seeds before and after an adapter; a table per tag with intervals."},
    [DRPO_INSPECT] = {"FILE|DIR", "Say what a safetensors file, model, adapter or run holds."},
    [DRPO_PLAN] = {"[OPTIONS of train]", "Print memory and chunking of a training run without starting it."},
    [DRPO_EXPORT] = {"RUN|LORA --format NAME [--out PATH]",
                     "Write an adapter for another program, or merged into its model."},
    [DRPO_REPORT] = {"RUN [--out FILE]", "Write a run as one self-contained HTML page."},
    [DRPO_BENCH] = {"[OPTIONS]", "Time training updates, phase by phase."},
    [DRPO_DOCTOR] = {"[MODEL]",
                     "Check the machine and a model: files, names, values, tokenizer. Exit code 2 when a check "
                     "fails."},
    [DRPO_REWARDS] = {"[--json]", "List the rewards: what each scores and needs, its range, licence and options."},
    [DRPO_GENEVAL] = {"--reward 'geneval:COMMAND' --out DIR [--lora PATH] [OPTIONS]",
                      "The GenEval benchmark: draw its prompts, have the pictures judged, count per tag. The same "
                      "command goes on where it was stopped; without --reward it only draws."},
    [DRPO_COMPARE] =
        {"--methods NAME,NAME,... [OPTIONS of train]",
         "Train several methods, or option sets, from the same base on the same prompts, noises and seeds; "
         "judge all on held-out prompts; one table with paired intervals. The same command goes on where "
         "it was stopped."},
    [DRPO_SWEEP] = {"--vary KEY=VALUE,VALUE,... [OPTIONS of train]",
                    "Train with each value of an option (several --vary: every combination), judged as drpo compare "
                    "does. The same command goes on where it was stopped."},
    [DRPO_PRETRAIN] = {"[OPTIONS]",
                       "Train a one-step generator of the embedded size on rendered scenes, every weight from a "
                       "random number, and write it as a diffusers folder. The same command goes on where it was "
                       "stopped."},
    [DRPO_REPLAY] =
        {"RUN",
         "Choose from the scores in RUN/candidates.jsonl again, without a generator or a reward, and compare with what "
         "the run chose. Exit code 1 at the first difference."},
};

/* Prints words of `text` between columns `indent` and 100; `column` is where the cursor is. */
static void print_wrapped(FILE *f, const char *text, int indent, int column) {
    if (column >= indent) {
        fputc(0x0a, f);
        column = 0;
    }
    fprintf(f, "%*s", indent - column, "");
    int at = indent;
    for (const char *p = text; *p;) {
        int n = (int)strcspn(p, " ");
        if (at > indent && at + 1 + n > 100) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        if (at > indent) at += fprintf(f, " ");
        at += fprintf(f, "%.*s", n, p);
        p += n + (p[n] == ' ');
    }
    fputc('\n', f);
}

/* "; one of a, b" or "; 0 or more" is left to the reference: help shows the default alone. */
static void print_option_help(FILE *f, const OptionInfo *info) {
    int column;
    if (info->type == OPTION_FILES)
        column = fprintf(f, "  %s", info->key);
    else if (info->type == OPTION_BOOL)
        column = fprintf(f, "  --%s", info->key);
    else
        column = fprintf(f, "  --%s %s", info->key, info->metavar);
    char text[1024];
    bool shown = info->initial[0] && info->type != OPTION_BOOL;
    char choices[256] = "";
    if (info->type == OPTION_CHOICE) value_choice_names(info->limits, choices, sizeof choices);
    snprintf(text, sizeof text, "%s%s%s%s%s%s%s", info->help, choices[0] ? " (" : "", choices, choices[0] ? ")" : "",
             shown ? " [" : "", shown ? info->initial : "", shown ? "]" : "");
    print_wrapped(f, text, 30, column);
}

char *config_help(drpo_verb verb, const char *program) {
    char *text = NULL;
    size_t size = 0;
    if ((int)verb < 0 || verb >= DRPO_VERBS) return NULL;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "Usage: %s %s %s\n\n%s\n", program, verb_name(verb), verb_help[verb].synopsis, verb_help[verb].text);
    const char *group = "";
    for (int id = 0; id < OPT_COUNT; id++) {
        const OptionInfo *info = option_info((OptionId)id);
        if (!(info->verbs & 1u << verb)) continue;
        if (strcmp(group, info->group) != 0) fprintf(f, "\n%s\n", group = info->group);
        print_option_help(f, info);
    }
    fprintf(f, "\n'-' and '_' are alike in names of options; names of other trainers work too (docs/flags.md).\n");
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* '|' ends a cell of a Markdown table. */
static void print_cell(FILE *f, const char *text) {
    for (; *text; text++) {
        if (*text == '|') fputc('\\', f);
        fputc(*text, f);
    }
}

static void print_aliases(FILE *f, const char *aliases) {
    for (const char *p = aliases; *p;) {
        int n = (int)strcspn(p, " ");
        fprintf(f, "%s`--%.*s`", p == aliases ? "" : ", ", n, p);
        p += n + (p[n] == ' ');
    }
}

static void print_row(FILE *f, const OptionInfo *info) {
    bool files = info->type == OPTION_FILES;
    fprintf(f, "| `%s", files ? "" : "--");
    print_cell(f, info->key);
    fprintf(f, "%s", info->metavar[0] && !files ? " " : "");
    if (!files) print_cell(f, info->metavar);
    fprintf(f, "` | ");
    if (info->initial[0]) fprintf(f, "`%s`", info->initial);
    fprintf(f, " | ");
    if (info->limits[0]) {
        fputc('`', f);
        print_cell(f, info->limits);
        fputc('`', f);
    }
    fprintf(f, " | ");
    print_cell(f, info->help);
    fprintf(f, " | ");
    print_aliases(f, info->aliases);
    fprintf(f, " |\n");
}

char *config_reference(void) {
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "# Options\n\nMade from `src/train/config_table.def` by `drpo --reference`. Every option is also a key "
               "of the YAML file given with\n"
               "`--config`; the command line wins over the file. `-` and `_` are alike. A bool is set by `--x` and "
               "unset by `--no-x`.\n");
    for (int verb = 0; verb < DRPO_VERBS; verb++) {
        fprintf(f, "\n## drpo %s\n\n`drpo %s %s`\n\n%s\n", verb_name((drpo_verb)verb), verb_name((drpo_verb)verb),
                verb_help[verb].synopsis, verb_help[verb].text);
        const char *group = "";
        for (int id = 0; id < OPT_COUNT; id++) {
            const OptionInfo *info = option_info((OptionId)id);
            if (!(info->verbs & 1u << verb)) continue;
            if (strcmp(group, info->group) != 0)
                fprintf(f,
                        "\n### %s\n\n| option | default | values | meaning | also known as |\n|---|---|---|---|---|\n",
                        group = info->group);
            print_row(f, info);
        }
    }
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
