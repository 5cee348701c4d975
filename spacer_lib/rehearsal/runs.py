"""Stages about whole runs: launcher, notebook and trainer, in their own processes."""

import spacer_lib.training.environment  # noqa: F401  # isort: skip

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    PathLike,
    read_jsonl,
    scratch_folder,
    write_jsonl,
)
from spacer_lib.models.shapes import shape_config
from spacer_lib.rehearsal.readings import STAGE_S, Readings

TINY = PROJECT_ROOT / "checkpoints" / "tiny_warmstart"
KEPT = (
    "loss",
    "grad_norm",
    "kl",
    "reward",
    "logp_change/max",
    "peak_gpu_memory_gb",
    "seconds/generate",
    "seconds/score",
    "seconds/update",
    "seconds/step",
)


# ---------------------------------------------------------------- inputs


def moving_boxes(folder: PathLike, count: int = 16, size: int = 56) -> Path:
    """Question rows about mp4 files that no renderer is needed for.

    Parameters
    ----------
    folder : path
        Gets the files and ``rows.jsonl``.
    count : int
    size : int
        Side of a frame in pixels.

    Returns
    -------
    Path
        Of ``rows.jsonl``.
    """
    folder, rows = Path(folder), []
    for number in range(count):
        draw = np.random.default_rng(number)
        path = folder / f"{number}.mp4"
        kind = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(path), kind, 8, (size, size))
        x, y = draw.integers(0, size - 16, 2)
        colour = draw.integers(60, 255, 3)
        for time_step in range(16):
            frame = np.full((size, size, 3), 30, np.uint8)
            left = (x + time_step) % (size - 14)
            frame[y : y + 14, left : left + 14] = colour
            writer.write(frame)
        writer.release()
        rows.append(
            {
                "id": f"box{number}",
                "video": path.name,
                "image": None,
                "question": "How many chair(s) are in this room?",
                "problem_type": "numerical",
                "question_type": "object_counting",
                "ground_truth": str(number % 4),
                "options": None,
                "map": {"chair": [[number % 10, 3]]},
                "categories": ["chair"],
            }
        )
    write_jsonl(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def random_checkpoint(name: str, folder: PathLike, device: torch.device) -> None:
    """A model of a published shape with random weights, and the tiny one's processor.

    Parameters
    ----------
    name : str
        Of ``models.shapes.SHAPES``, or ``tiny``.
    folder : path
    device : torch.device
        Where the weights are drawn.
    """
    processor = AutoProcessor.from_pretrained(TINY)
    own = Qwen2_5_VLForConditionalGeneration.config_class.from_pretrained(TINY)
    config = own if name == "tiny" else shape_config(name)
    for key in (
        "image_token_id",
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    ):
        setattr(config, key, getattr(own, key))
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=half)
    for part in (processor.image_processor, processor.video_processor):
        part.patch_size = config.vision_config.patch_size
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


# ---------------------------------------------------------------- runs


def train_run(
    readings: Readings,
    name: str,
    data: Path,
    changes: Mapping[str, object],
    *,
    on_cpu: bool = False,
    predicted: str | None = None,
) -> None:
    """``spacer train`` in a process of its own, and what its metrics say.

    Parameters
    ----------
    readings : Readings
    name : str
    data : Path
        Question rows.
    changes : dict
        Of the recipe tiny.
    on_cpu : bool
        Hide the GPUs.
    predicted : str, optional
    """
    settings = {
        "data_path": data,
        "max_steps": 2,
        "prompts_per_step": 4,
        "num_generations": 8,
        "max_completion_length": 128,  # shorter ones earn nothing: the loss is 0
        "beta": 0.04,
        "advanced.frozen": "null",
        "save_steps": 2,
        **changes,
    }
    with scratch_folder() as folder:
        out = folder / "run"
        pairs = [f"{key}={value}" for key, value in settings.items()]
        command = ["train", "--config", "tiny", "--out", str(out), "--set", *pairs]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {}
        done, seconds = _spacer(readings, command, hidden)
        if done.returncode:
            tail = (done.stderr or done.stdout).strip()[-400:]
            readings.add(name, error=tail, wall_s=seconds)
            return
        rows = read_jsonl(out / "metrics.jsonl")
    steps = [{key: row[key] for key in KEPT if key in row} for row in rows]
    said = [line for line in done.stdout.splitlines() if "prompt" in line]
    readings.add(
        name,
        wall_s=seconds,
        device="CPU" if on_cpu else str(readings.device),
        said=said,
        steps=steps,
        predicted=predicted,
    )


def _spacer(
    readings: Readings, command: list[str], environment: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run ``spacer`` until it ends or the stage's time is over."""
    start = time.monotonic()
    left = max(30, STAGE_S - readings.seconds)
    paths = [str(PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "spacer_lib", *command],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        | dict(environment),
        capture_output=True,
        text=True,
        timeout=left,
    )
    return done, round(time.monotonic() - start, 1)


def train(readings: Readings) -> None:
    """The launcher in each arrangement on one GPU, and notebook 05 by papermill."""
    half = {"bf16": "true", "advanced.gradient_checkpointing": "true"}
    arrangements: dict[str, dict[str, object]] = {"fp32": {}}
    if readings.cuda:
        arrangements["fp32, CPU"] = {}
    arrangements["bf16, autocast"] = {"bf16": "true"}
    if readings.big:
        arrangements |= {
            "bf16, ZeRO-2": half | {"zero_stage": 2},
            "bf16, ZeRO-3": half | {"zero_stage": 3},
            "bf16, ZeRO-2, LoRA": half | {"zero_stage": 2, "lora.rank": 8},
            "bf16, ZeRO-3, offload": half
            | {"zero_stage": 3, "advanced.offload": "all"},
        }
    with scratch_folder() as folder:
        data = moving_boxes(folder)
        for name, changes in arrangements.items():
            readings.attempt(
                name,
                lambda name, changes: train_run(
                    readings,
                    name,
                    data,
                    changes,
                    on_cpu=name.endswith("CPU"),
                    predicted="losses of GPU and CPU within 1e-3 in fp32",
                ),
                name,
                changes,
            )
        if readings.big:
            readings.attempt("papermill", lambda: _papermill(readings, data))


def _papermill(readings: Readings, data: Path) -> None:
    with scratch_folder() as folder:
        out = folder
        given = {"gpus": 1, "max_steps": 3, "data_dir": data, "out_dir": out / "run"}
        pairs = [word for key, value in given.items() for word in ("-p", key, value)]
        command = ["run", "05_train_grpo", "--out", out / "05.ipynb", *pairs]
        done, seconds = _spacer(readings, list(map(str, command)), {})
    if done.returncode:
        readings.add("papermill", error=done.stderr.strip()[-400:], wall_s=seconds)
    else:
        readings.add("papermill", wall_s=seconds)


def lora7b(readings: Readings) -> None:
    """The trainer at published sizes on one card: LoRA of 7B, all of 3B offloaded."""
    shared: dict[str, object] = {
        "frames": 16 if readings.big else 4,
        "frame_size": 224 if readings.big else 56,
        "prompts_per_step": 1,
        "num_generations": 8 if readings.big else 2,
        "max_completion_length": 1024 if readings.big else 8,
        "bf16": str(readings.big).lower(),
        "advanced.gradient_checkpointing": "true",
        "advanced.positions": "original",
        "top_p": 0.95,
    }
    plans = [
        ("7b", "LoRA", {"lora.rank": 16, "zero_stage": 2 if readings.big else 0}),
        ("3b", "all, offloaded", {"zero_stage": 3, "advanced.offload": "optimizer"}),
    ]
    for name, how, changes in plans if readings.big else plans[:1]:
        size = name if readings.big else "tiny"
        readings.attempt(
            f"{size}, {how}",
            _at_size,
            readings,
            shared,
            size,
            how,
            changes,
        )


def _at_size(
    readings: Readings,
    shared: Mapping[str, object],
    size: str,
    how: str,
    changes: Mapping[str, object],
) -> None:
    with scratch_folder() as folder:
        model = folder / "model"
        random_checkpoint(size, model, readings.device)
        if readings.cuda:
            torch.cuda.empty_cache()  # for the process that trains
        data = moving_boxes(folder, 4, 224 if readings.big else 56)
        train_run(
            readings,
            f"{size}, {how}",
            data,
            {**shared, "model_path": model, **changes},
            predicted="22 GiB; more than 85 % of a step is generation"
            if how == "LoRA"
            else "45 GB of CPU memory",
        )
