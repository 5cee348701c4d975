#!/usr/bin/env bash
# Build .venv in the repository root: system libraries, torch, everything pinned in
# requirements.lock, and spacer_lib itself (editable). pip refuses a package whose
# SHA-256 is not in the lock. Safe to interrupt and to repeat; returns at once when
# nothing that decides the environment has changed.
#
# torch's CUDA build also needs requirements-cuda.lock: it is installed where torch
# asks for it, as on a GPU machine. Elsewhere requirements-cpu.lock is tried first.
#
# SPACER_TORCH_INDEX (unset by default): a package index that carries CPU builds of
# torch and torchvision; used only where there is no NVIDIA GPU. Their versions are
# pinned, but the lock knows no hashes of that index.
#
# SPACER_CUDA (unset by default): any value installs the CUDA build without a GPU, for an
# image or a login node of machines that have one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
log=build/setup.log
stamp_file=.venv/.spacer-stamp

inputs=(constraints.txt pyproject.toml requirements.lock requirements-cuda.lock
    requirements-cpu.lock scripts/setup.sh)
# The path is part of the stamp: a virtual environment does not survive being moved.
stamp=$({ printf '%s\n' "$root"; cat "${inputs[@]}"; } |
    sha256sum)
stamp=${stamp%% *}
if [[ -x .venv/bin/python && -f $stamp_file && $(<"$stamp_file") == "$stamp" ]]; then
    exit 0
fi

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

remedy() { # what the end of the log asks for
    local end
    end=$(tail -n 25 "$log")
    case $end in
        *"No space left"* | *"Disk quota"* | *"File too large"*)
            echo "free some space (the environment takes 4 GB or more)" ;;
        *IncompleteRead* | *"Connection broken"* | *"Read timed out"* | \
            *"Max retries"* | *ConnectionError* | *ProtocolError* | \
            *"Could not find a version"* | *HASHES* | *" is invalid."* | \
            *"Temporary failure"*)
            echo "check the network, its proxy and the package index" ;;
        *"ermission denied"*) echo "let this user write in $root" ;;
        *) echo "mend what it names" ;;
    esac
}

run() { # run LABEL COMMAND...: one progress line; the output goes to the log
    local label=$1 start=$SECONDS
    shift
    printf 'setup: %-42s' "$label"
    printf '\n== %s\n' "$label" >>"$log" ||
        fail "cannot write $log." "Remedy: free some space and run this again."
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        printf ' failed\n'
        tail -n 25 "$log" >&2
        fail "\"$label\" failed; the whole output is in $log." \
            "Remedy: $(remedy) and run the same command again (it resumes)."
    fi
    printf ' %4d s\n' "$((SECONDS - start))"
}

if [[ ! -w . ]] || ! mkdir -p build 2>/dev/null || ! { : >"$log"; } 2>/dev/null; then
    fail "cannot write in $root." \
        "Remedy: change the folder's permissions or clone it into a writable one."
fi

# --- Python 3.11 -----------------------------------------------------------------
python=
for candidate in python3.11 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
        >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    fail "Python 3.11 was not found (looked for python3.11 and python3 on PATH)." \
        "Remedy: install it (Debian, Ubuntu: apt-get install python3.11" \
        "python3.11-venv python3.11-dev), or use conda with environment.yml."
fi

# --- system libraries ------------------------------------------------------------
# Open3D renders through EGL and links the rest; ffmpeg writes the videos; DeepSpeed
# compiles one small extension with g++ and Python.h.
missing=()
libraries=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true)
need_library() { [[ $libraries == *"$1"* ]] || missing+=("$2"); }
need_command() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need_command ffmpeg ffmpeg
need_command g++ g++
need_library libusb-1.0.so.0 libusb-1.0-0
need_library libGL.so.1 libgl1
need_library libEGL.so.1 libegl1
need_library libgomp.so.1 libgomp1
need_library libX11.so.6 libx11-6
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[[ -f $include/Python.h ]] || missing+=(python3.11-dev)
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3.11-venv)

if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null 2>&1; then
        fail "these system packages are missing (Debian's names): ${missing[*]}." \
            "Remedy: install what your system calls them, then run this again."
    elif [[ $(id -u) != 0 ]]; then
        fail "these system packages are missing: ${missing[*]}." \
            "Remedy: sudo apt-get install -y ${missing[*]}"
    fi
    export DEBIAN_FRONTEND=noninteractive
    run "system package lists" apt-get update
    run "system packages: ${missing[*]}" \
        apt-get install -y --no-install-recommends "${missing[@]}"
fi

# --- virtual environment ---------------------------------------------------------
# One that is broken, of another Python or made for another path is built anew; one that
# a stopped set-up left half full is filled up.
usable() {
    [[ $(grep '^command = ' .venv/pyvenv.cfg) == *" $root/.venv" ]] &&
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' &&
        .venv/bin/python -m pip --version
}
if ! usable >/dev/null 2>&1; then
    if [[ -L .venv || (-e .venv && ! -d .venv) ]]; then
        fail ".venv is a link or a file, not an environment of this checkout." \
            "Remedy: remove it (rm .venv), and run this again."
    fi
    run "virtual environment" "$python" -m venv --clear "$root/.venv"
fi
rm -f "$stamp_file"
# pip writes INSTALLER last, so a package without it was cut off: pip must redo it.
for info in .venv/lib/python3.11/site-packages/*.dist-info; do
    if [[ -d $info && ! -f $info/INSTALLER ]]; then rm -rf "$info"; fi
done
rm -rf .venv/lib/python3.11/site-packages/~*  # of a package that was being replaced

pip=(.venv/bin/python -m pip install --no-input --progress-bar off
    --disable-pip-version-check --no-deps)
# What comes as source alone is built with the tools of the lock, not with others.
locked=("${pip[@]}" --no-build-isolation --require-hashes -r)

# The lock in parts, for the order matters: DeepSpeed's build looks at the torch
# that is installed.
rm -rf build/lock
mkdir -p build/lock
part=rest
while IFS= read -r line; do
    case $line in
        setuptools==* | wheel==*) part=tools ;;
        torch==*) part=torch ;;
        torchvision==*) part=torchvision ;;
        deepspeed==*) part=deepspeed ;;
        [a-z]*) part=rest ;;
    esac
    printf '%s\n' "$line" >>"build/lock/$part.txt"
done <requirements.lock

# --- packages --------------------------------------------------------------------
run "build tools" "${locked[@]}" build/lock/tools.txt
for_gpus() { [[ -n ${SPACER_CUDA:-} ]] || nvidia-smi >/dev/null 2>&1; }
if [[ -n ${SPACER_TORCH_INDEX:-} ]] && ! for_gpus; then
    run "torch (CPU build)" "${pip[@]}" -c constraints.txt \
        --index-url "$SPACER_TORCH_INDEX" torch torchvision
else
    # Without a GPU the build without CUDA, gigabytes smaller, if pip knows a place
    # (--find-links, --extra-index-url) that has it.
    printf '\n== torch (CPU build)\n' >>"$log"
    if for_gpus ||
        ! "${locked[@]}" requirements-cpu.lock >>"$log" 2>&1 </dev/null ||
        ! .venv/bin/python -m pip show --quiet torch >>"$log" 2>&1; then
        run "torch" "${locked[@]}" build/lock/torch.txt
    fi
    # spacer_lib makes a CUDA-built torchvision importable beside a torch without CUDA.
    run "torchvision" "${locked[@]}" build/lock/torchvision.txt
fi
wants_cuda='
import importlib.metadata, sys
sys.exit(not any("nvidia" in r for r in importlib.metadata.requires("torch") or ()))
'
if .venv/bin/python -c "$wants_cuda" 2>/dev/null; then
    run "CUDA libraries of torch" "${locked[@]}" requirements-cuda.lock
fi
run "notebooks, training and test packages" "${locked[@]}" build/lock/rest.txt
run "deepspeed" "${locked[@]}" build/lock/deepspeed.txt
run "spacer_lib" "${pip[@]}" --no-build-isolation -e .
run "what each package asks for" .venv/bin/python -m pip check
# The three that fail at import where a system library is absent.
run "imports" .venv/bin/python -c 'import spacer_lib, torch, open3d
from spacer_lib.rooms.decoders import decoder_name
__import__(decoder_name())'

printf '%s\n' "$stamp" >"$stamp_file"
printf 'setup: done in %d s\n' "$SECONDS"
