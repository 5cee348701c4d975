"""Stages of a warm start: one loop for all, and a folder that can be resumed.

A stage leaves a file or folder; a finished stage is not repeated. Losses of all stages
go into ``metrics.jsonl``.
"""

import functools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from spacer_lib.artifacts import (
    PathLike,
    append_jsonl,
    atomic_folder,
    atomic_path,
    config_hash,
    make_folder,
    provenance,
    read_jsonl,
    read_record,
    resume_journal,
    sole_writer,
    write_json,
    write_jsonl,
)
from spacer_lib.errors import SpacerError
from spacer_lib.jobs import die_with_parent
from spacer_lib.models.checkpoints import RULE_KEY
from spacer_lib.models.patches.rope import position_rule

LOGGED = 50  # steps from one line of metrics.jsonl to the next

Losses = dict[str, Tensor]
Stage = Callable[[Any, Path], None]  # (configuration, folder of the warm start)


def in_background(
    batches: torch.utils.data.IterableDataset[Any], ahead: int = 4
) -> Iterator[Any]:
    """The batches of a data set, made by another process."""
    return iter(
        torch.utils.data.DataLoader(
            batches,
            batch_size=None,
            num_workers=1,
            prefetch_factor=ahead,
            collate_fn=_as_it_is,
        )
    )


def _as_it_is(items: Any) -> Any:
    return items


def train(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    loss_at: Callable[[int], Losses],
    out_dir: Path,
    *,
    steps: int,
    lr: float,
    ramp: int = 50,
    weights: Mapping[str, float] | None = None,
) -> None:
    """AdamW with warm-up and cosine decay.

    Parameters
    ----------
    name : str
        Of the stage.
    parameters : iterable of Parameter
    loss_at : callable
        Step → losses by name.
    out_dir : Path
        Its ``metrics.jsonl`` gets the losses, before their weights.
    steps, lr, ramp
        ``lr`` is reached after ``ramp`` steps and falls to 3 % of itself.
    weights : dict, optional
        Of losses in the sum that is minimised; 1 where none is given.
    """
    parameters, weights = list(parameters), weights or {}
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    history: list[dict[str, float]] = []
    start, cpu = time.perf_counter(), time.process_time()
    bar = tqdm(range(steps), desc=f"warm start: {name}", mininterval=5)
    for step in bar:
        warmed = min(1.0, (step + 1) / ramp)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * warmed * (0.03 + 0.97 * cosine)
        losses = loss_at(step)
        optimizer.zero_grad()
        weighted = [weights.get(key, 1.0) * loss for key, loss in losses.items()]
        functools.reduce(torch.add, weighted).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        history.append({key: float(v.detach()) for key, v in losses.items()})
        if (step + 1) % LOGGED == 0 or step + 1 == steps:
            means = _means(history[-LOGGED:])
            bar.set_postfix(means)
            line = {"stage": name, "step": step + 1, **means}
            line["seconds"] = round(time.perf_counter() - start, 1)
            line["cpu_seconds"] = round(time.process_time() - cpu, 1)
            append_jsonl(out_dir / "metrics.jsonl", [line])


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each loss over the steps that have it."""
    names = sorted({name for row in rows for name in row})
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: round(statistics.fmean(v), 4) for name, v in values.items()}


def load_weights(parts: Mapping[str, torch.nn.Module], *paths: Path) -> None:
    """Fill modules from files of ``save_weights``."""
    weights: dict[str, Any] = {}
    for path in paths:
        weights |= torch.load(path, weights_only=True)
    for name, module in parts.items():
        module.load_state_dict(weights[name])


def save_weights(path: Path, modules: Mapping[str, torch.nn.Module]) -> None:
    """Write the weights of named modules."""
    with atomic_path(path) as temporary:
        torch.save({k: m.state_dict() for k, m in modules.items()}, temporary)


def save_model(folder: Path, model: Any, processor: Any) -> None:
    """Write a checkpoint that the stock classes load, with its rule of positions.

    Its file has weights of half precision, half the size; its configuration says
    single precision, so that it is computed in that.
    """
    setattr(model.config, RULE_KEY, position_rule(model))
    with atomic_folder(folder) as draft:
        model.save_pretrained(draft)
        processor.save_pretrained(draft)
        path = draft / "model.safetensors"
        weights = {name: weight.half() for name, weight in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})


def run_chain(
    out_dir: PathLike,
    config: Any,
    chain: Sequence[Mapping[str, Stage]],
    *,
    about: Mapping[str, Any],
    evaluate: Callable[[Path], Any] | None = None,
) -> Path:
    """All stages into ``out_dir``; a second call skips finished stages.

    Parameters
    ----------
    out_dir : path
    config : dataclass
        Of the warm start.
    chain : sequence of dict
        File or folder that a stage leaves → the stage, named ``train_NAME``. Stages of
        one dict run at the same time. The last leaves ``model``.
    about : dict
        Written into ``provenance.json``.
    evaluate : callable, optional
        ``evaluate(model_dir) -> dict`` of metrics for the provenance file.

    Returns
    -------
    Path
        The model's folder; ``provenance.json`` is beside it.

    Raises
    ------
    SpacerError
        If ``out_dir`` holds a warm start of another configuration, or a stage failed.
    """
    out_dir = make_folder(out_dir)
    with sole_writer(out_dir):
        _stamp(out_dir / "config.json", config)
        for stages in chain:
            left = [s for name, s in stages.items() if not (out_dir / name).exists()]
            _forget(left, out_dir / "metrics.jsonl")
            _side_by_side(left, config, out_dir)
        model = out_dir / "model"
        done = out_dir / "provenance.json"
        if not done.exists():
            rows = read_jsonl(out_dir / "metrics.jsonl")
            record = {
                **read_record(out_dir / "config.json", "hash"),
                "seconds": {row["stage"]: row["seconds"] for row in rows},
                "last_losses": {row["stage"]: row for row in rows},
                **about,
                "metrics": evaluate(model) if evaluate else None,
            }
            write_json(done, record)
    return model


def _stamp(stamp: Path, config: Any) -> None:
    """Write what is trained, or refuse a folder where something else was."""
    fingerprint = config_hash(config)
    if not stamp.exists():
        write_json(stamp, {"hash": fingerprint, **provenance(config=asdict(config))})
    elif read_record(stamp, "hash")["hash"] != fingerprint:
        raise SpacerError(
            f"{stamp.parent} holds a warm start of another configuration",
            kind="tiny.other-configuration",
            got=read_record(stamp, "hash")["hash"],
            expected=fingerprint,
            remedy="choose another folder or delete this one",
        )


def _forget(stages: Sequence[Stage], path: Path) -> None:
    """Remove from a log what stages wrote that were stopped."""
    names = [stage.__name__.removeprefix("train_") for stage in stages]
    rows = resume_journal(path)
    kept = [row for row in rows if row["stage"] not in names]
    if len(kept) < len(rows):
        write_jsonl(path, kept)


def _run(stage: Stage, config: Any, out_dir: Path) -> None:
    die_with_parent()  # else it writes on into a folder whose lock is gone
    stage(config, out_dir)


def _side_by_side(stages: Sequence[Stage], config: Any, out_dir: Path) -> None:
    """Run stages at the same time, each in its own process."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_run, args=(s, config, out_dir)) for s in stages]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for stage, worker in zip(stages, workers, strict=True):
        if worker.exitcode != 0:
            raise SpacerError(
                f"warm start: {stage.__name__} ended with code {worker.exitcode}",
                kind="tiny.stage-failed",
                remedy="read its traceback above; run again to resume",
            )
