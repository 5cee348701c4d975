#!/usr/bin/env bash
# Lint, types, tests and notebooks. Every stage runs; the exit status is 0 only if all
# pass. Arguments go to pytest (scripts/test.sh -k maps -x).
#
#   scripts/test.sh          everything
#   scripts/test.sh --check  two minutes: lint, types, and the tests that train nothing,
#                            open no video and start no other process
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

export PATH="$PWD/.venv/bin:$PATH"
# One thread each, since tests run in parallel; offline, so that no test can download.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 TQDM_DISABLE=1

check=false
if [[ ${1:-} == --check ]]; then check=true && shift; fi

names=() states=() seconds=()
failed=0

stage() { # stage NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then states+=(passed); else states+=(FAILED) failed=1; fi
    names+=("$name") seconds+=($((SECONDS - start)))
}

layout() { python -m ruff check . && python -m ruff format --check .; }

some_tests() { # some_tests OPTION...: passes too where the arguments select no test
    MPLBACKEND=Agg python -m pytest tests -q -rs --durations=10 "$@"
    local status=$?
    ((status == 0 || status == 5))
}

# Two notebooks at a time. 07 reads the model of 05, and 03 the rooms of 01, so each
# group runs in order. Figures stay inline, so there is no MPLBACKEND; SPACER_QUICK
# makes the notebooks cheap. nbval compares the outputs of the cells tagged
# nbval-check-output (scripts/tag_compared.py), figures by the data behind them; the
# committed outputs are without real metadata (tests/test_notebook_scans.py runs with).
# Each kernel's first line watches its figures: see tests/figure_checker.py.
book_group() { # book_group NUMBER...
    env -u MPLBACKEND -u SPACER_REAL_META -u SPACER_REAL_QA SPACER_QUICK=1 \
        IPYTHONDIR="$kernels" PYTHONPATH="$PWD:$PWD/tests" \
        python -m pytest --nbval-lax -q --durations=4 \
        "${@/#/notebooks/}"
}
books() {
    local log kernels figures book rest=() first=0 second=0 third=0
    log=$(mktemp) kernels=$(mktemp -d) figures=$(mktemp)
    mkdir -p "$kernels/profile_default/startup"
    echo "import figure_checker; figure_checker.watch('$figures')" \
        >"$kernels/profile_default/startup/00.py"
    for book in notebooks/[0-9]*.ipynb; do
        [[ $book == */0[567]_* ]] || rest+=("$(basename "$book")")
    done
    book_group 05_train_grpo.ipynb 06_train_baselines.ipynb 07_evaluate.ipynb \
        >"$log" 2>&1 &
    book_group "${rest[@]}" || first=1
    wait $! || second=1
    cat "$log"
    python tests/figure_checker.py "$figures" || third=1
    rm -rf "$log" "$kernels" "$figures"
    ((first == 0 && second == 0 && third == 0))
}

stage layout layout
stage types python -m mypy
if $check; then
    stage tests some_tests -n 2 --dist loadfile \
        -m "not (training or video or processes or slow)" "$@"
else
    stage tests some_tests -n 2 --dist loadfile -m "not processes" "$@"
    # These start processes of their own or measure time and memory: one at a time.
    stage processes some_tests -m processes "$@"
    stage notebooks books
fi

printf '\n== summary\n'
for i in "${!names[@]}"; do
    printf '%-10s %-7s %5d s\n' "${names[i]}" "${states[i]}" "${seconds[i]}"
done
exit "$failed"
