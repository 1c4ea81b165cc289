#!/bin/sh
# The layering check must accept the allowed directions and refuse each wrong one.
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
failed=0

# try RESULT FILE INCLUDE: a tree with this one include must be accepted (0) or refused (1)
try() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/$(dirname "$2")" "$tree/src/base"
    printf '#include "%s"\n' "$3" >"$tree/$2"
    sh "$here/layers.sh" "$tree" >/dev/null 2>&1
    if [ $? -ne "$1" ]; then
        echo "layers.sh: expected $1 for $2 including $3"
        failed=1
    fi
}

try 0 src/format/json.c base/file.h
try 0 src/format/json.c format/json.h
try 0 src/format/safetensors.h engine/tensor.h
try 1 src/format/json.c engine/graph.h
try 1 src/base/file.c format/json.h
try 1 src/engine/plan.c format/json.h
try 1 src/engine/plan.c model/unet.h
try 0 src/model/unet.c engine/graph.h
try 1 src/model/unet.c step/step.h
try 1 src/step/drift.c train/config.h
try 0 src/step/step.c step/reward/reward.h
try 1 src/step/drift.c step/reward/reward.h
try 1 src/step/drift.c step/select.h
try 0 src/step/drift_cloud.c step/drift_internal.h
try 1 src/step/reward/scene.c step/feature/feature.h
try 1 src/step/reward/scene.c step/drift.h
try 1 src/step/reward/scene.c step/step.h
try 0 src/step/reward/scene.c step/step_types.h
try 0 src/step/reward/scene.c step/reward/reward.h
try 0 src/train/job.c step/step.h
try 1 src/train/job.c report/html.h
try 0 src/compare/children.c eval/verb_eval.h
try 0 src/compare/page.c report/curve.h
try 1 src/eval/verb_eval.c compare/compare.h
try 0 src/api/drpo_run.c compare/compare.h
try 0 src/api/drpo_run.c eval/verb_eval.h
try 0 cli/main.c drpo.h
try 0 cli/main.c cli.h
try 1 cli/main.c base/file.h
try 1 src/base/file.c file.h
try 1 src/other/file.c base/file.h
exit $failed
