#!/usr/bin/env bash
# evaluate_studies.sh
# Asks the held-out rooms of the warm start, of every model that the studies trained, and
# of the floors: what the tables of README and notebook 08 are made of. Resumes; minutes a
# model at most.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS=1
start=checkpoints/tiny_warmstart first=runs/study
data=data/held_out out=runs/held_out

python - "$data" <<'PYTHON'
import sys
from pathlib import Path

from spacer_lib.benchmarks import held_out

folder = Path(sys.argv[1])
if not (folder / "test.parquet").exists():
    held_out.write(folder)
    # Other rooms, for the answers that the floors give.
    held_out.write(folder / "floor", first_seed=held_out.FIRST_SEED + 100_000)
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
for study in runs/study{,_more,_beta,_modes}; do
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
# was not trained is left out; `make study` leaves out `dpo`:
#   spacer extras study --config map --arms dpo --out runs/study_more
pools=()
pool() { # pool NAME STUDY__ARM
    local runs=("$out/$2"_seed*) list
    ((${#runs[@]})) || return 0
    list=$(IFS=,; echo "${runs[*]}")
    pools+=(--pool "$1=$list")
}
pool "SG-RLVR" study__map
pool "map paid as published" study__paper_map
pool "no map reward" study__no_map
pool "random rewards" study__random
pool "β 1e-4" study_beta__beta_1e-4
pool "SFT" study__sft
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
