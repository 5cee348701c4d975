#!/usr/bin/env bash
# Build the site in build/site from the committed notebooks, without running them.
# Sphinx lives in .venv-site, an environment of its own, from requirements-site.lock.
# Every warning is an error, and every internal link is checked. The pages ask nothing
# of other hosts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${SPACER_SITE_VENV:-.venv-site}

stamp=$(sha256sum <requirements-site.lock)
if [[ ! -f $venv/.spacer-stamp || $(<"$venv/.spacer-stamp") != "$stamp" ]]; then
    python=$(command -v python3.11 || true)
    [[ -n $python ]] || python=$(readlink -f .venv/bin/python)
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --no-input --progress-bar off -q \
        --disable-pip-version-check --require-hashes --no-deps \
        -r requirements-site.lock
    printf '%s\n' "$stamp" >"$venv/.spacer-stamp"
fi

"$venv/bin/python" scripts/site.py sources build/site-source
rm -rf build/site
"$venv/bin/python" -m sphinx -W --keep-going -q -b html -d build/site-cache \
    build/site-source build/site
"$venv/bin/python" scripts/site.py links build/site
printf 'build/site/index.html: %s pages, %s\n' \
    "$(find build/site -name '*.html' | wc -l)" "$(du -sh build/site | cut -f1)"
