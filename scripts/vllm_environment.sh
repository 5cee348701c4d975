#!/usr/bin/env bash
# Build .venv-vllm in the repository root: vLLM for CPUs beside this project, for
# rollouts and evaluation by vLLM on a machine without a GPU, and for tests/rollouts. Safe
# to interrupt and to repeat; returns at once when it is up to date.
#
# Every package is installed from requirements-vllm.lock with its SHA-256
# (scripts/lock.sh): vLLM pins other versions than constraints.txt for some packages, so
# it has an environment of its own. `pip check` names transformers, numpy, torchaudio
# and torchcodec: the first is newer than vLLM asks for and the second older than this
# project asks for, and both work; the others are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=${SPACER_VLLM_VENV:-$root/.venv-vllm}

stamp=$({ printf '%s\n' "$root" "$venv"
    cat requirements-vllm.lock requirements-c*.lock pyproject.toml \
        scripts/vllm_environment.sh scripts/vllm_site/*.py; } | sha256sum)
stamp=${stamp%% *}
if [[ -f $venv/.spacer-stamp && $(<"$venv/.spacer-stamp") == "$stamp" ]]; then
    exit 0
fi

python=$(command -v python3.11 || true)
[[ -n $python ]] || python=$(readlink -f .venv/bin/python)
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$venv"
fi
rm -f "$venv/.spacer-stamp"
pip=("$venv/bin/python" -m pip install --no-input --progress-bar off -q
    --disable-pip-version-check --no-deps --no-build-isolation)
step() { printf 'vllm: %s\n' "$1"; }
build=build/vllm
mkdir -p "$build"
locked() { # locked NAMES: install the lock's entries of these names, or all but these
    awk -v names="^($1)==" -v other="${2:-}" \
        '/^[a-z]/ { keep = ($0 ~ names) != (other != "") } keep' \
        requirements-vllm.lock >"$build/part.txt"
    "${pip[@]}" --require-hashes -r "$build/part.txt"
}

# DeepSpeed is built last, for its build looks at the torch that is installed.
step "build tools"
locked "setuptools|wheel"
step "torch"
if ! "${pip[@]}" --require-hashes -r requirements-cpu.lock >/dev/null 2>&1 ||
    ! "$venv/bin/python" -m pip show --quiet torch >/dev/null 2>&1; then
    # No place is known that has the build without CUDA: gigabytes more, and it works.
    locked torch
    "${pip[@]}" --require-hashes -r requirements-cuda.lock
fi
step "vLLM and the packages of this project (1 GB)"
locked "setuptools|wheel|torch|deepspeed" other
locked deepspeed
"${pip[@]}" -e .
step "operators that torchvision misses"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp scripts/vllm_site/declare_torchvision_operators.py "$site/"
printf 'import declare_torchvision_operators\n' \
    >"$site/declare_torchvision_operators.pth"
step "imports"
"$venv/bin/python" -c 'import spacer_lib.training.vllm_rollouts, vllm, deepspeed' \
    >"$build/imports.log" 2>&1 || { tail -n 20 "$build/imports.log" >&2; exit 1; }
printf '%s\n' "$stamp" >"$venv/.spacer-stamp"
step "$venv is ready: $venv/bin/python -m spacer_lib train --set advanced.vllm=colocate"
