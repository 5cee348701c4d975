#!/usr/bin/env bash
# A folder of wheels for a GPU machine without a network: what an image with torch,
# numpy, pandas, pyarrow, OpenCV and the like lacks, at the versions of constraints.txt
# and under 64 MiB. Needs `make setup` and a network here.
#
#     scripts/wheels.sh [FOLDER] [PYTHON]        (build/wheels, 3.12)
#
# There: pip install --no-index --no-deps FOLDER/*.whl
# then:  PYTHONPATH=. python -m spacer_lib doctor --rehearse env
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-build/wheels} python=${2:-3.12} limit=$((64 * 1024 * 1024))

# Without their dependencies: pip would add torch, of gigabytes. Open3D is left out;
# only the drawing of rooms needs it.
packages=(
    accelerate datasets decord dill einops hjson jaxtyping jiwer multiprocess peft
    pydantic pydantic-core py-cpuinfo rapidfuzz tokenizers transformers trl typer
    typing-inspection annotated-types xxhash
    # notebook 05 by papermill
    papermill nbclient nbformat ipykernel jupyter-client fastjsonschema tenacity
    entrypoints jupytext
)
rm -rf "$folder"
mkdir -p "$folder"
.venv/bin/pip download --quiet --no-deps --dest "$folder" \
    --only-binary=:all: --python-version "$python" --implementation cp \
    --abi "cp${python/./}" --abi abi3 --abi none \
    --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux_2_28_x86_64 --platform any \
    --constraint constraints.txt "${packages[@]}"
# DeepSpeed comes as source alone. Its kernels are compiled on first use, on the GPU
# machine, so a wheel without them serves any Python.
DS_ACCELERATOR=cpu DS_BUILD_OPS=0 .venv/bin/pip wheel --quiet --no-deps \
    --no-build-isolation --wheel-dir "$folder" "$(grep '^deepspeed==' constraints.txt)"

size=$(du -cb "$folder"/*.whl | tail -n 1 | cut -f 1)
count=$(find "$folder" -name '*.whl' | wc -l)
echo "$folder: $count wheels, $((size / 1048576)) MiB"
if ((size > limit)); then
    du -h "$folder"/*.whl | sort -rh | head -n 5 >&2
    printf 'wheels: more than 64 MiB. Remedy: leave out what the machine has.\n' >&2
    exit 1
fi
