#!/bin/sh
# Checks the direction of every #include below a source tree: layers.sh [ROOT]
#
#   base <- format, engine <- model <- step <- train <- pretrain, eval, report <- compare <- api; cli sees include/drpo.h alone.
#   format and engine do not see each other, but format uses the nouns of engine/tensor.h.
#   Stages of src/step do not see each other; step.c and step_prompt.c (with step.h, networks, losses, sampler and probe) join them.
#
# Prints one line for each include that goes the wrong way and then fails.
root=${1:-$(dirname "$0")/../..}
cd "$root" || exit 2

grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src cli include examples --include='*.[ch]' --include='*.def' 2>/dev/null |
    sed -E 's/^([^:]+):([0-9]+):[^"]*"([^"]+)".*/\1 \2 \3/' |
    awk '
    BEGIN {
        sees["base"] = ""
        sees["format"] = "base"
        sees["engine"] = "base"
        sees["model"] = "base format engine"
        sees["step"] = "base format engine model"
        sees["train"] = sees["step"] " step"
        sees["pretrain"] = sees["train"] " train"
        sees["report"] = sees["train"] " train"
        sees["eval"] = sees["report"] " report"
        sees["compare"] = sees["eval"] " eval"
        sees["api"] = sees["compare"] " compare pretrain"
        split("noise generate decode text prompt select drift optimize gradient", names)
        for (i in names) stage[names[i]] = 1
    }
    function contains(list, word) { return index(" " list " ", " " word " ") > 0 }
    # The stage of a file of src/step: its folder, or its first word when that names a stage.
    function stage_of(path,    parts, n, word) {
        n = split(path, parts, "/")
        if (n > 2) return parts[2]
        word = parts[2]
        sub(/[_.].*/, "", word)
        return word in stage ? word : ""
    }
    function wrong(why) {
        printf "%s:%s: includes \"%s\": %s\n", $1, $2, $3, why
        bad++
    }
    {
        from = $1; target = $3
        if (from ~ /^cli\//) {
            if (target != "drpo.h" && target ~ /\//) wrong("cli sees include/drpo.h alone")
            next
        }
        if (from ~ /^examples\//) {
            if (target != "drpo.h" && target != "drpo_reward.h") wrong("examples see include/drpo.h alone")
            next
        }
        if (from ~ /^include\//) { wrong("the public header stands alone"); next }
        sub(/^src\//, "", from)
        split(from, f, "/"); split(target, t, "/")
        if (!(f[1] in sees)) { wrong("src/" f[1] " is not a room; add it to tests/lint/layers.sh"); next }
        if (target == "drpo.h" || target == "drpo_reward.h") next
        if (target !~ /\//) { wrong("write it as \"room/file.h\""); next }
        if (t[1] == f[1]) {
            if (f[1] != "step") next
            if (from ~ /^step\/(step|step_prompt|step_internal|networks|sampler|losses|scenes|probe)\.[ch]$/) next
            mine = stage_of(from); theirs = stage_of(target)
            if (theirs != "" && theirs != mine) wrong("only step_prompt.c joins stages; share types through step/step_types.h")
            else if (split(from, parts, "/") > 2 && theirs != mine && target != "step/step_types.h")
                wrong("a stage sees step/step_types.h and its own folder only")
            next
        }
        if (f[1] == "format" && target == "engine/tensor.h") next
        if (!(t[1] in sees)) wrong("\"" t[1] "\" is not a room")
        else if (!contains(sees[f[1]], t[1])) wrong(f[1] " must not see " t[1])
    }
    END { exit bad > 0 }'
