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
    losses_from: Callable[[int], Iterator[Losses]],
    out_dir: Path,
    *,
    steps: int,
    lr: float,
    ramp: int = 50,
    weights: Mapping[str, float] | None = None,
) -> None:
    """AdamW with warm-up and cosine decay; a stopped stage goes on where it was.

    Parameters
    ----------
    name : str
        Of the stage.
    parameters : iterable of Parameter
    losses_from : callable
        First step → the losses by name of each step from there on.
    out_dir : Path
        Its ``metrics.jsonl`` gets the losses, before their weights, and
        ``NAME.state.pt`` what a stopped stage needs, every ``LOGGED`` steps.
    steps, lr, ramp
        ``lr`` is reached after ``ramp`` steps and falls to 3 % of itself.
    weights : dict, optional
        Of losses in the sum that is minimised; 1 where none is given.
    """
    parameters, weights = list(parameters), weights or {}
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.98), weight_decay=0.01
    )
    path, log = _state_path(out_dir, name), out_dir / "metrics.jsonl"
    first, passed = _resume(path, parameters, optimizer)
    _forget(log, name, first)
    history: list[dict[str, float]] = []
    start = time.perf_counter() - passed[0], time.process_time() - passed[1]
    losses_at = losses_from(first)
    bar = tqdm(
        range(first, steps),
        desc=f"warm start: {name}",
        initial=first,
        total=steps,
        mininterval=5,
    )
    for step in bar:
        warmed = min(1.0, (step + 1) / ramp)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * warmed * (0.03 + 0.97 * cosine)
        losses = next(losses_at)
        optimizer.zero_grad()
        weighted = [weights.get(key, 1.0) * loss for key, loss in losses.items()]
        functools.reduce(torch.add, weighted).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        history.append({key: float(v.detach()) for key, v in losses.items()})
        if (step + 1) % LOGGED == 0 or step + 1 == steps:
            means = _means(history[-LOGGED:])
            bar.set_postfix(means)
            now = time.perf_counter() - start[0], time.process_time() - start[1]
            seconds, cpu_seconds = (round(value, 1) for value in now)
            line = {"stage": name, "step": step + 1, **means}
            append_jsonl(
                log, [{**line, "seconds": seconds, "cpu_seconds": cpu_seconds}]
            )
            state = {
                "step": step + 1,
                "passed": now,
                "parameters": [p.detach() for p in parameters],
                "optimizer": optimizer.state_dict(),
            }
            with atomic_path(path) as temporary:
                torch.save(state, temporary)


def _state_path(out_dir: Path, name: str) -> Path:
    return out_dir / f"{name}.state.pt"


def _resume(
    path: Path, parameters: Sequence[torch.nn.Parameter], optimizer: Any
) -> tuple[int, tuple[float, float]]:
    """Fill weights and optimiser; the next step, and seconds and CPU-seconds passed."""
    if not path.exists():
        return 0, (0.0, 0.0)
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["passed"]


def _forget(log: Path, name: str, step: int) -> None:
    """Remove from a log what a stage wrote after a step that it takes again."""
    rows = resume_journal(log)
    kept = [row for row in rows if row["stage"] != name or row["step"] <= step]
    if len(kept) < len(rows):
        write_jsonl(log, kept)


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
    chain: Mapping[str, Stage],
    *,
    about: Mapping[str, Any],
    evaluate: Callable[[Path], Any] | None = None,
) -> Path:
    """All stages into ``out_dir``; a second call goes on where the first stopped.

    Parameters
    ----------
    out_dir : path
    config : dataclass
        Of the warm start.
    chain : dict
        File or folder that a stage leaves → the stage, named ``train_NAME``, in their
        order. The last leaves ``model``.
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
        for name, stage in chain.items():
            if not (out_dir / name).exists():
                _run_apart(stage, config, out_dir)
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


def _run(stage: Stage, config: Any, out_dir: Path) -> None:
    die_with_parent()  # else it writes on into a folder whose lock is gone
    stage(config, out_dir)
    _state_path(out_dir, stage.__name__.removeprefix("train_")).unlink(missing_ok=True)


def _run_apart(stage: Stage, config: Any, out_dir: Path) -> None:
    """Run a stage in a process of its own."""
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=_run, args=(stage, config, out_dir))
    worker.start()
    worker.join()
    if worker.exitcode != 0:
        raise SpacerError(
            f"warm start: {stage.__name__} ended with code {worker.exitcode}",
            kind="tiny.stage-failed",
            remedy="read its traceback above; run again to resume",
        )
