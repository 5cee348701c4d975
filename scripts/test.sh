#!/usr/bin/env bash
# Lint, tests, notebooks: all three always run; the exit status is 0 only if all pass.
# Arguments go to the pytest run over tests/ (scripts/test.sh -k maps -x).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

export PATH="$PWD/.venv/bin:$PATH"
# One thread each, so that parallel ranks and kernels do not fight over the cores;
# offline, so that nothing is fetched behind a test's back.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 TQDM_DISABLE=1

names=() states=() seconds=()
failed=0

stage() { # stage NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then states+=(passed); else states+=(FAILED) failed=1; fi
    names+=("$name") seconds+=($((SECONDS - start)))
}

stage lint python -m ruff check .
stage tests env MPLBACKEND=Agg python -m pytest tests -q --durations=15 "$@"
# Figures stay inline here, so no MPLBACKEND; SPACER_QUICK is the cheap mode.
stage notebooks env -u MPLBACKEND SPACER_QUICK=1 \
    python -m pytest --nbval-lax -q --durations=6 notebooks

printf '\n== summary\n'
for i in "${!names[@]}"; do
    printf '%-10s %-7s %5d s\n' "${names[i]}" "${states[i]}" "${seconds[i]}"
done
exit "$failed"
