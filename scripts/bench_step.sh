#!/usr/bin/env bash
# Times a GRPO step with each prompt computed once and as stock trainers do, for several
# lengths of prompt and completion and sizes of group; notebook 11 draws the result. Takes
# 15 minutes on one core. Other work on the machine changes the figures.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1
out=papermill_runs/bench_step

time_step() { # time_step PROMPT COMPLETION GROUP OPTION...
    local shape="$1_$2_$3"
    echo "== prompt $1, completions of $2, group of $3"
    python -m benches.step --model small --prompt "$1" --completion "$2" --group "$3" \
        --json "$out/$shape.json" "${@:4}"
}

time_step 1100 400 8 # SpaceR's proportions
time_step 200 60 8   # the tiny recipe's
# Updates over one dimension at a time; generation is cut short.
for shape in "200 100 8" "600 100 8" "1100 100 8" \
    "600 50 8" "600 200 8" "600 400 8" \
    "600 100 2" "600 100 4" "600 100 16"; do
    # shellcheck disable=SC2086
    time_step $shape --decode 20
done
