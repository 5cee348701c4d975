#!/usr/bin/env bash
# Trains the tiny recipe with rollouts by vLLM, and keeps what `python -m benches.rollouts`
# compares with the library's. Ten minutes on a quiet core. Finished runs are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 VLLM_LOGGING_LEVEL=ERROR
# Both in one environment: the same torch and transformers.
python=${SPACER_VLLM_VENV:-$PWD/.venv-vllm}/bin/python
out=runs/rollouts

train() { # train NAME SETTING...
    local name=$1
    shift
    echo "== $name"
    "$python" -m spacer_lib train --config tiny --out "$out/$name" \
        --set "advanced.rollouts_per_step=128" "$@"
}
vllm=(advanced.vllm=colocate advanced.vllm_length=1024)

for seed in 0 1; do train "vllm_seed$seed" "seed=$seed" "${vllm[@]}"; done
# No weight moves at this rate: rollouts by the warm start.
start=(max_steps=10 learning_rate=1e-12)
train start_vllm "${start[@]}" "${vllm[@]}"
train start_library "${start[@]}"

"$python" -m benches.rollouts "$out"
