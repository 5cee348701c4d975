# A GPU node's environment, from the same locks as `make setup`:
#
#     docker build -t spacer .
#     docker run --rm --gpus all --shm-size 16g -v "$PWD/data:/spacer/data" \
#         -v "$PWD/runs:/spacer/runs" spacer \
#         .venv/bin/spacer train --config spacer_3b_lora --resume
#
# The host needs NVIDIA's driver of CUDA 13 (580 or newer) and its container toolkit.
# The user in the image has the number UID: with another one than yours, build with
# --build-arg UID="$(id -u)", or the folders that are mounted cannot be written.
# CUDA's first two numbers are those of cuda-toolkit in requirements-cuda.lock.
ARG CUDA=13.0.2

# Ubuntu 24.04 has no Python 3.11.
FROM python:3.11-slim-bookworm AS python

# "devel" brings nvcc, with which DeepSpeed builds the optimiser of advanced.offload.
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04
ARG UID=1000
# Models of the hub lie in the mounted folder, or each container would fetch them.
ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1 HF_HOME=/spacer/data/huggingface
# First what scripts/setup.sh asks for, then what Python 3.11 loads.
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates ffmpeg g++ git libegl1 libgl1 libgomp1 libusb-1.0-0 libx11-6 make \
        libbz2-1.0 libexpat1 libffi8 liblzma5 libreadline8t64 libsqlite3-0 libssl3t64 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python /usr/local /usr/local
RUN ldconfig && python3.11 -c 'import bz2, ctypes, lzma, sqlite3, ssl, venv'

# The base image's own user has the number 1000.
RUN (userdel --remove ubuntu 2>/dev/null || true) \
    && useradd --create-home --uid "${UID}" spacer \
    && install --directory --owner spacer --group spacer /spacer
USER spacer
WORKDIR /spacer
COPY --chown=spacer:spacer . .
# Every package by its SHA-256; torch's CUDA build, though no GPU is seen here.
RUN SPACER_CUDA=1 PIP_NO_CACHE_DIR=1 scripts/setup.sh \
    && rm -rf build && mkdir -p data runs
CMD ["make", "help"]
