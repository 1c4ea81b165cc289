/* The drpo program: a verb, its flags, and what they print. Everything else is in libdrpo, seen through drpo.h alone.
 *
 * Exit code: 0; 2 for a wrong option or bad input; 130 after Ctrl-C, once the run is saved; 1 for everything else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct {
    const char *name;
    drpo_verb verb;
    const char *text;
} commands[] = {
    {"train", DRPO_TRAIN, "finetune a generator toward a reward"},
    {"sample", DRPO_SAMPLE, "make pictures"},
    {"eval", DRPO_EVAL, "score fixed prompts and seeds before and after an adapter"},
    {"geneval", DRPO_GENEVAL, "run the GenEval benchmark"},
    {"score", DRPO_SCORE, "score pictures"},
    {"report", DRPO_REPORT, "write a run as one HTML page"},
    {"export", DRPO_EXPORT, "write an adapter for another program"},
    {"compare", DRPO_COMPARE, "train and judge several methods alike"},
    {"sweep", DRPO_SWEEP, "train and judge several values of options alike"},
    {"pretrain", DRPO_PRETRAIN, "make a generator of the embedded size from rendered scenes"},
    {"replay", DRPO_REPLAY, "check what a run chose from its scores"},
    {"plan", DRPO_PLAN, "print memory and chunking of a run"},
    {"inspect", DRPO_INSPECT, "say what a file or folder holds"},
    {"bench", DRPO_BENCH, "time training updates"},
    {"doctor", DRPO_DOCTOR, "check the machine and a model"},
    {"rewards", DRPO_REWARDS, "list the rewards and what they need"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *out) {
    fprintf(out, "Usage: drpo VERB [OPTIONS]\n\nFinetunes one-step text-to-image generators toward any reward "
                 "(Drifting Preference Optimization).\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].text);
    fprintf(out, "\n'drpo VERB --help' lists its options; 'drpo train' alone trains the embedded generator.\n");
}

static int print_owned(char *text) {
    if (!text) return 1;
    int failed = fputs(text, stdout) < 0 || fflush(stdout) != 0;
    free(text);
    return failed;
}

static int exit_code(int code) {
    if (code >= 0) return 0;
    if (code == DRPO_E_USAGE || code == DRPO_E_INPUT) return 2;
    return code == DRPO_E_CANCELLED ? 130 : 1;
}

static int run_verb(drpo_verb verb, int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return print_owned(drpo_config_help(verb, "drpo"));
    drpo_config *c = drpo_config_new(verb);
    if (!c) {
        fprintf(stderr, "drpo: out of memory\n");
        return 1;
    }
    Terminal terminal;
    drpo_callbacks callbacks = terminal_open(&terminal);
    int code = drpo_config_parse(c, argc, (const char *const *)argv);
    if (code == 0) code = drpo_run(c, &callbacks);
    terminal_close(&terminal);
    if (code < 0) fprintf(stderr, "drpo: %s\n", drpo_config_error(c));
    drpo_config_free(c);
    if (code == 0 && (fflush(stdout) != 0 || terminal.failed)) {
        fprintf(stderr, "drpo: writing to standard output failed\n");
        return 1;
    }
    return exit_code(code);
}

int main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "";
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(word, commands[i].name) == 0) return run_verb(commands[i].verb, argc - 2, argv + 2);
    if (strcmp(word, "help") == 0 && argc > 2) {
        for (int i = 0; i < COMMANDS; i++)
            if (strcmp(argv[2], commands[i].name) == 0) return print_owned(drpo_config_help(commands[i].verb, "drpo"));
        word = argv[2]; /* says which word is no verb */
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (strcmp(word, "help") == 0 && argc == 2)) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(word, "--version") == 0) {
        printf("drpo %s\n", drpo_version());
        return 0;
    }
    if (strcmp(word, "--reference") == 0) return print_owned(drpo_config_reference());
    if (argc < 2)
        print_usage(stderr);
    else
        fprintf(stderr, "drpo: '%s' is not a verb; 'drpo --help' lists them\n", word);
    return 2;
}
