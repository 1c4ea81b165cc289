/* Worker pool: copies of one program, each spoken to in lines of JSON: a request out, a reply back (message.h).
 *
 * Every fault (no reply, one that its reader refuses, a crash) is an error that names the command and what happened;
 * the worker is then ended, and started anew by the next attempt. */
#ifndef DRPO_STEP_REWARD_EXEC_POOL_H
#define DRPO_STEP_REWARD_EXEC_POOL_H

#include "step/reward/message.h"
#include "step/reward/reward_internal.h"

typedef struct ExecPool ExecPool;

/* Reads one line that begins with '{'. */
typedef struct ReplyReader {
    ReplyKind (*read)(void *user, const char *line, char *what, size_t size);
    void *user;
} ReplyReader;

/* The options that exec_pool_open reads. */
#define EXEC_POOL_OPTIONS(timeout, ready_timeout)                                                                      \
    {"images", REWARD_CHOICE, "png", "png|rgb|paths", "form of the pictures"},                                         \
        {"timeout", REWARD_SECONDS, timeout, "", "seconds for an answer"},                                             \
        {"ready_timeout", REWARD_SECONDS, ready_timeout, "", "further seconds for the first one"}, {                   \
        "workers", REWARD_COUNT, "1", "1..64", "copies of the program that share a prompt's pictures"                  \
    }

/* Starts spec->argument. line_max: longest reply in bytes, 0: CHILD_LINE_MAX. */
int exec_pool_open(const RewardSpec *spec, size_t line_max, ExecPool **out, Error *err);
void exec_pool_close(ExecPool *s);
int exec_pool_workers(const ExecPool *s);
/* By as many threads at once as there are workers. */
int exec_pool_ask(ExecPool *s, const Prompt *prompt, const Pictures *pictures, const ReplyReader *reader, Error *err);
/* "exec_warm" for "python3 examples/rewards/warm.py --strict": the first word with a dot in its file name, else the
 * first word. */
void exec_short_name(const char *kind, const char *command, char *name, size_t size);

#endif
