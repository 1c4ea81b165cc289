/* Prints the ids of every line of standard input: the tokenizer's side of tokens.py.  Usage: tokens FOLDER */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer.h"

int main(int argc, char **argv) {
    Error err = {0};
    Tokenizer *t;
    if (argc != 2 || tokenizer_open(argv[1], &t, &err) < 0) {
        fprintf(stderr, "%s\n", argc == 2 ? err.text : "usage: tokens FOLDER");
        return 2;
    }
    int length = tokenizer_length(t);
    int32_t *ids = calloc((size_t)length, sizeof *ids);
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; ids && (n = getline(&line, &room, stdin)) > 0;) {
        line[strcspn(line, "\n")] = 0;
        if (tokenizer_encode(t, line, ids, NULL, &err) < 0) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        for (int i = 0; i < length; i++) printf("%d%c", ids[i], i + 1 < length ? ' ' : '\n');
    }
    free(line);
    free(ids);
    tokenizer_free(t);
    return 0;
}
