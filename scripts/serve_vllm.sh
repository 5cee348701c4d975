#!/usr/bin/env bash
# Serve a checkpoint with vLLM on a CPU, so that `spacer evaluate --endpoint`, `spacer
# align --endpoint` and training with advanced.vllm=server can ask it.
#
#   scripts/serve_vllm.sh checkpoints/tiny_warmstart 8000
#
# --trust-request-mm-kwargs: a video's frames come with their places in the video, by
#   which the model knows the time; vLLM refuses that per request otherwise.
# --no-enable-chunked-prefill: a prompt in pieces winds back a seeded generator, which a
#   CPU's cannot.
# --media-io-kwargs: vLLM 0.31 looks up a reader of video files in a table that newer
#   transformers write otherwise. Frames are sent, so none is used.
# VLLM_SERVER_DEV_MODE: training replaces the weights. Do not open the port to others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
model=$1 port=${2:-8000}
venv=${SPACER_VLLM_VENV:-$PWD/.venv-vllm}
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1}
export VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export VLLM_SERVER_DEV_MODE=1 VLLM_NO_USAGE_STATS=1
# `vllm serve` looks for the package's metadata under the name of the GPU build.
exec "$venv/bin/python" -m vllm.entrypoints.openai.api_server --model "$model" \
    --host 127.0.0.1 --port "$port" --served-model-name "$(basename "$model")" \
    --max-model-len "${SPACER_VLLM_LENGTH:-2048}" --dtype float32 --enforce-eager \
    --no-enable-chunked-prefill --generation-config vllm \
    --logprobs-mode processed_logprobs \
    --limit-mm-per-prompt '{"video":1,"image":32}' \
    --media-io-kwargs '{"video":{"video_backend":"opencv"}}' --trust-request-mm-kwargs
