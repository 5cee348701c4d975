#!/usr/bin/env bash
# evaluate_studies.sh [VIEW]
# Asks the held-out rooms of every model that the studies trained, and of the floors:
# what the tables of README and notebook 08 are made of. Resumes; minutes a model at most.
# VIEW is `new` of the dollhouse, or a camera inside a room, such as `turn`.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1
view=${1:-new} config=tiny start=checkpoints/tiny_warmstart kept=held_out
studies=(runs/study_[!i]*) first=runs/study_baselines
if [[ $view != new ]]; then
    config=tiny_inside start=checkpoints/tiny_inside kept=held_out_$view
    studies=(runs/study_inside) first=runs/study_inside
fi
data=data/$kept out=runs/$kept

python - "$data" "$view" <<'PYTHON'
import sys
from pathlib import Path

from spacer_lib.benchmarks import held_out

folder, view = Path(sys.argv[1]), sys.argv[2]
rooms = 120 if view == "new" else 130  # more than 600 questions
if not (folder / "test.parquet").exists():
    held_out.write(folder, rooms=rooms, view=view)
    # Other rooms, for the answers that the floors give.
    first = held_out.FIRST_SEED + 100_000
    held_out.write(folder / "floor", rooms=rooms, view=view, first_seed=first)
PYTHON

ask() { # ask NAME OPTION...
    local name=$1
    shift
    echo "== $name"
    spacer extras evaluate --benchmark held-out --data "$data" --config "$config" \
        --out "$out/$name" "$@"
}

for floor in majority constant category frequency random; do
    ask "floor_$floor" --floor "$floor" --train-data "$data/floor/test.parquet"
done
for condition in own blind other shuffled random_map oracle; do
    ask "start_$condition" --model "$start" --set "condition=$condition"
done
for study in "${studies[@]}"; do
    for model in "$study"/*_seed*/model; do
        run=$(basename "${model%/model}")
        mode=tiny
        case $run in
            observe*) mode=tiny_observe ;;
            vanilla*) mode=tiny_vanilla ;;
        esac
        ask "$(basename "$study")__$run" --model "$model" --set "mode=$mode"
    done
done
for condition in blind other shuffled random_map oracle; do
    model=$first/map_seed0/model
    if [[ -d $model ]]; then ask "map_seed0_$condition" --model "$model" --set "condition=$condition"; fi
done

# One table of all: seeds of an arm pooled, differences against the warm start. An arm that
# was not trained is left out; `make studies` leaves out three:
#   spacer extras study --config baselines --arms dpo --arms sft_same_rows \
#       --out runs/study_more
#   spacer extras study --config map --arms paper_map --out runs/study_paper
pools=()
pool() { # pool NAME STUDY__ARM
    local runs=("$out/$2"_seed*) list
    ((${#runs[@]})) || return 0
    list=$(IFS=,; echo "${runs[*]}")
    pools+=(--pool "$1=$list")
}
pool "SG-RLVR" study_baselines__map
pool "map paid as published" study_paper__paper_map
pool "no map reward" study_baselines__no_map
pool "β 1e-4" study_beta__beta_1e-4
pool "SFT" study_baselines__sft
pool "SFT, same rows" study_more__sft_same_rows
pool "DPO" study_more__dpo
pool "form: think" study_modes__think
pool "form: observe" study_modes__observe
pool "form: vanilla" study_modes__vanilla
pool "SG-RLVR" study_inside__map
pool "map paid as published" study_inside__paper_map
pool "no map reward" study_inside__no_map
pool "random rewards" study_inside__random
pool "SFT" study_inside__sft
spacer report "majority=$out/floor_majority" "frequency=$out/floor_frequency" \
    "random=$out/floor_random" "constant=$out/floor_constant" \
    "category=$out/floor_category" "no video=$out/start_blind" \
    "another room=$out/start_other" "warm start=$out/start_own" \
    "frames shuffled=$out/start_shuffled" "random map=$out/start_random_map" \
    "true map=$out/start_oracle" "${pools[@]}" --reference "warm start" \
    --out "runs/${kept}_report"
mkdir -p "papermill_runs/$kept"
cp "runs/${kept}_report"/{report.md,floors.csv,{scores,deltas}.{csv,svg}} "papermill_runs/$kept/"
