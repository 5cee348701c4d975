#!/usr/bin/env bash
# lmms-eval beside `spacer evaluate` on the embedded tiny model, and their difference
# explained. Builds .venv-lmms-eval; everything else lies in build/lmms_eval.
#
#   SPACER_LMMS_VENV   the environment, if it is elsewhere
#   SPACER_LMMS_ROOMS  rooms of the held-out benchmark (24 have 134 questions)
#
# Both load the same weights in bfloat16 and number positions as transformers 5.23 does.
# Frames have 56 pixels a side, as in training: neither side resizes them. Then nearly
# all texts are the same. The last comparisons change one thing each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=${SPACER_LMMS_VENV:-$root/.venv-lmms-eval}
rooms=${SPACER_LMMS_ROOMS:-24}
work=$root/build/lmms_eval
LMMS_EVAL=0.7.3
mkdir -p "$work"
step() { printf 'lmms-eval: %s\n' "$1"; }
pinned() { grep -E "^$1==" constraints.txt; }

# --- lmms-eval in an environment of its own ----------------------------------------
stamp=$({ printf '%s\n' "$root" "$LMMS_EVAL"
    cat constraints.txt scripts/vllm_site/*.py; } | sha256sum)
if [[ ! -f $venv/.spacer-stamp || $(<"$venv/.spacer-stamp") != "${stamp%% *}" ]]; then
    step "environment (2 GB)"
    python=$(command -v python3.11 || readlink -f .venv/bin/python)
    "$python" -m venv --clear "$venv"
    pip=("$venv/bin/python" -m pip install --no-input --progress-bar off -q
        --disable-pip-version-check)
    grep -E '^(accelerate|datasets|huggingface-hub|tokenizers|torch|transformers)==' \
        constraints.txt >"$work/constraints.txt"
    "${pip[@]}" "$(pinned torch)"
    "${pip[@]}" --no-deps "$(pinned torchvision)"
    "${pip[@]}" -c "$work/constraints.txt" "lmms-eval==$LMMS_EVAL" \
        "$(pinned transformers)" "$(pinned torchvision)" "$(pinned decord)"
    # It imports a private part of filelock that 4.3 no longer has.
    "${pip[@]}" --no-deps "filelock==3.19.1"
    # A torchvision for GPUs beside a torch for CPUs: see the copied file.
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp scripts/vllm_site/declare_torchvision_operators.py "$site/"
    printf '%s\nimport declare_torchvision_operators\n' "$root" \
        >"$site/declare_torchvision_operators.pth"
    printf '%s\n' "${stamp%% *}" >"$venv/.spacer-stamp"
fi

# --- questions, videos, weights, tasks, profiles -----------------------------------
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 WANDB_MODE=disabled
export TOKENIZERS_PARALLELISM=false TQDM_DISABLE=1
data=$work/hf/vsibench # where lmms-eval unpacks VSI-Bench's videos
step "held-out benchmark, $rooms rooms"
.venv/bin/python - "$work" "$rooms" <<'PYTHON'
import sys
from pathlib import Path

import torch
import yaml

from spacer_lib.benchmarks import held_out
from spacer_lib.evaluation.profiles import PROFILES
from spacer_lib.models.checkpoints import load_checkpoint

work, rooms = Path(sys.argv[1]), int(sys.argv[2])
held_out.FRAME_PX = 56
held_out.write(work / "hf/vsibench", rooms=rooms, videos=True)
model, processor = load_checkpoint("checkpoints/tiny_warmstart", dtype=torch.bfloat16)
for part in (model, processor):
    part.save_pretrained(work / "model")
# Four profiles with the model's own prompt: the others it was never taught.
for name in ("lmms_eval", "spacer", "spatial_r1", "video_r1"):
    profile = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
    parts = [profile["default"], *profile.get("benchmarks", {}).values()]
    for part in parts:
        for key in ("mode", "texts", "prompt_at", "max_new_tokens"):
            part.pop(key, None)
    profile["default"] |= {"mode": "tiny", "max_new_tokens": 128}
    (work / f"{name}.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    if name == "lmms_eval":  # the frames of its older class
        profile["sampler"] = {"rule": "tail"}
        (work / "tail.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
PYTHON
package=$("$venv/bin/python" -c 'from importlib.util import find_spec
print(find_spec("lmms_eval").submodule_search_locations[0])')
mkdir -p "$work/task"
cp scripts/lmms_eval_task/vsi_local.py scripts/lmms_eval_task/vsibench_held_out*.yaml \
    "$work/task/"
sed -i "s#PACKAGE#$package#; s#DATA#$data#" "$work/task/vsibench_held_out.yaml"

# --- lmms-eval ---------------------------------------------------------------------
step "lmms-eval $LMMS_EVAL"
rm -rf "$work/log"
HF_HOME=$work/hf "$venv/bin/python" -m lmms_eval eval --model qwen2_5_vl --device cpu \
    --model_args "pretrained=$work/model,device_map=cpu,max_num_frames=8,min_pixels=3136,max_pixels=3136,attn_implementation=sdpa" \
    --include_path "$work/task" --tasks vsibench_held_out,vsibench_held_out_bare \
    --batch_size 1 --log_samples --output_path "$work/log" >"$work/lmms_eval.log" 2>&1 ||
    { tail -n 20 "$work/lmms_eval.log" >&2; exit 1; }
grep -E 'vsibench_overall|_mra|_accuracy' "$work/lmms_eval.log" || true

# --- this project ------------------------------------------------------------------
spacer=(.venv/bin/python -m spacer_lib)
held=(--benchmark held-out --data "$data")
like=(--set frames=8 max_pixels=3136 min_pixels=3136 batch_size=1)
evaluate() { # evaluate NAME PROFILE POSITIONS
    step "spacer evaluate: $1"
    "${spacer[@]}" evaluate "${held[@]}" --model "$work/model" --profile "$2" \
        --positions "$3" "${like[@]}" --out "$work/runs/$1" | grep -E 'macro|unread' ||
        true
}
read_log() { # read_log TASK NAME
    "${spacer[@]}" score "${held[@]}" --predictions "$work"/log/*/*_samples_"$1".jsonl \
        --profile lmms_eval --out "$work/runs/$2" | grep -E 'lmms-eval|micro'
}
explain() { "${spacer[@]}" extras explain-gap "$@" --out "$work/gap"; }
read_log vsibench_held_out log
read_log vsibench_held_out_bare log_bare
evaluate prompt lmms_eval library
evaluate bare "$work/lmms_eval.yaml" library
evaluate original "$work/lmms_eval.yaml" original
evaluate tail "$work/tail.yaml" library
for name in spatial_r1 video_r1 spacer; do
    evaluate "$name" "$work/$name.yaml" library
done
step "the same settings"
explain "$work/runs/log" "$work/runs/prompt"
explain "$work/runs/log_bare" "$work/runs/bare"
step "the same texts, read as four systems read them"
for name in spatial_r1 video_r1 spacer; do
    explain "$work/runs/log_bare" --profile lmms_eval --profile "$name"
done
step "another rule of positions, another sampler"
explain "$work/runs/bare" "$work/runs/original"
explain "$work/runs/bare" "$work/runs/tail"
step "asked and read as another system"
for name in spatial_r1 video_r1 spacer; do
    explain "$work/runs/log_bare" "$work/runs/$name"
done
