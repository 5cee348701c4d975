#!/usr/bin/env bash
# Asks the held-out rooms of every model that the studies trained, and of the floors:
# what the tables of notebook 08 are made of. Resumes; minutes a model at most.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1
data=data/held_out out=runs/held_out start=checkpoints/tiny_warmstart

python - "$data" <<'PYTHON'
import sys
from pathlib import Path

from spacer_lib.benchmarks import held_out

if not (Path(sys.argv[1]) / "test.parquet").exists():
    held_out.write(sys.argv[1], rooms=120)
    # Other rooms, for the answers that the floors give.
    first = held_out.FIRST_SEED + 100_000
    held_out.write(Path(sys.argv[1]) / "floor", rooms=120, first_seed=first)
PYTHON

ask() { # ask NAME OPTION...
    local name=$1
    shift
    echo "== $name"
    spacer extras evaluate --benchmark held-out --data "$data" --config tiny \
        --out "$out/$name" "$@"
}

for floor in majority constant category frequency random; do
    ask "floor_$floor" --floor "$floor" --train-data "$data/floor/test.parquet"
done
for condition in own blind other shuffled random_map oracle; do
    ask "start_$condition" --model "$start" --set "condition=$condition"
done
for model in runs/study_*/*/model; do
    run=${model%/model}
    mode=tiny
    case $(basename "$run") in
        observe*) mode=tiny_observe ;;
        vanilla*) mode=tiny_vanilla ;;
    esac
    ask "$(basename "$(dirname "$run")")__$(basename "$run")" --model "$model" --set "mode=$mode"
done
for condition in blind other shuffled random_map oracle; do
    model=runs/study_baselines/map_seed0/model
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
    [[ -d ${runs[0]} ]] || return 0
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
spacer report "majority=$out/floor_majority" "frequency=$out/floor_frequency" \
    "random=$out/floor_random" "constant=$out/floor_constant" \
    "category=$out/floor_category" "no video=$out/start_blind" \
    "another room=$out/start_other" "warm start=$out/start_own" \
    "frames shuffled=$out/start_shuffled" "random map=$out/start_random_map" \
    "true map=$out/start_oracle" "${pools[@]}" --reference "warm start" \
    --out runs/held_out_report
mkdir -p papermill_runs/held_out
cp runs/held_out_report/{report.md,floors.csv,{scores,deltas}.{csv,svg}} papermill_runs/held_out/
