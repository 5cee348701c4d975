"""Ask held-out questions, score the answers, keep everything, and resume.

Every prediction is kept as raw text with a hash of everything that produced it. A row
with missing media or an unreadable answer counts as wrong and says why.

``run``       a public benchmark and any backend → a folder
``evaluate``  question rows of ours and a model in this process → a file
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from spacer_lib.artifacts import (
    PathLike,
    config_hash,
    make_folder,
    provenance,
    read_record,
    sole_writer,
    to_jsonable,
    write_json,
)
from spacer_lib.benchmarks import rules_of
from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.ask import Journal, ask, depends_on, unique_ids
from spacer_lib.evaluation.backends import Backend, LocalModel
from spacer_lib.evaluation.chain import summary, write_chained
from spacer_lib.evaluation.config import EXTRACTIONS, EvaluationConfig
from spacer_lib.evaluation.fallback import read_again
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.evaluation.statistics import summarize, totals
from spacer_lib.language.asking import AskSettings
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rows import Prediction, Question

# ---------------------------------------------------------------- benchmarks


def run(
    benchmark: Benchmark,
    rows: Sequence[Question],
    backend: Backend,
    out_dir: PathLike,
    settings: AskSettings | None = None,
    *,
    condition: str = "own",
    extraction: str = "strict",
    overwrite: bool = False,
    fallback: Backend | None = None,
    retry_failed: bool = False,
    profile: str | None = None,
    accept_edited: bool = False,
) -> list[Prediction]:
    """Ask every row, score it, and write a folder; resume an earlier run.

    The folder holds ``predictions.jsonl`` (one line as soon as its answer is there, in
    the rows' order once all are), ``evaluation.json`` (everything that the answers
    depend on) and ``scores.json``. A row whose media are missing or broken, or that a
    server refuses, is wrong and says why.

    Parameters
    ----------
    benchmark : Benchmark
    rows : list of Question
        Of the benchmark's reader.
    backend : Backend
    out_dir : path
    settings : AskSettings, optional
        SpaceR's in the benchmark's own mode if not given; see ``EvaluationConfig``.
    condition : str
        One of ``CONDITIONS``.
    extraction : str
        One of ``EXTRACTIONS``; see ``benchmarks.rules_of``.
    overwrite : bool
        Delete what the folder holds of other settings.
    fallback : Backend, optional
        Reads the outputs that the rule did not; see ``fallback.read_again``.
    retry_failed : bool
        Ask again the rows whose record is ``request_failed``.
    profile : str, optional
        Name of the profile that the settings come from, for the folder alone.
    accept_edited : bool
        Go on from answers that were edited after they were written; ``evaluation.json``
        says so from then on.

    Returns
    -------
    list of Prediction
        One per row, in order, with ``condition``, ``tokens`` (generated; ``None`` if
        unknown), ``seed``, ``config`` (the hash) and ``chain`` (``evaluation.chain``).

    Raises
    ------
    SpacerError
        If an id occurs twice, the folder holds answers to other settings or answers
        that were edited, another run is writing it, or the backend cannot go on. What
        was answered until then is kept.
    """
    ids = unique_ids(rows)
    if extraction not in EXTRACTIONS:
        raise SpacerError(
            "extraction",
            kind="evaluation.unknown-extraction",
            got=extraction,
            expected=", ".join(EXTRACTIONS),
        )
    mixed = extraction == "strict+fallback"
    if mixed and fallback is None:
        raise SpacerError(
            "extraction",
            kind="evaluation.no-fallback",
            got=extraction,
            expected="a fallback endpoint",
        )
    settings = settings or EvaluationConfig().settings(benchmark.mode)
    rule = rules_of(benchmark)["strict" if mixed else extraction]
    asked = {
        "benchmark": benchmark.name,
        "extraction": extraction,
        **depends_on(rows, backend, settings, condition),
    }
    asked = to_jsonable(asked)
    header = {
        "name": backend.name,
        "config": config_hash(asked),
        **({"profile": profile} if profile else {}),
        **asked,
        **provenance(),
    }
    folder = make_folder(out_dir)
    with sole_writer(folder):
        _prepare(folder, header, overwrite)
        path, about = folder / "predictions.jsonl", folder / "evaluation.json"
        configs = dict.fromkeys(ids, header["config"])
        journal = Journal(path, configs, accept_edited=accept_edited)
        kept = _reopened(about, journal.edited)
        if retry_failed and journal.forget("request_failed"):
            (folder / "scores.json").unlink(missing_ok=True)
        start, before = time.monotonic(), len(journal.done)
        with contextlib.closing(
            ask(rows, backend, settings, journal, condition=condition)
        ) as answered:
            for row, (reply,) in answered:
                made = record(row, reply.text, rule, failure=reply.failure)
                journal.add(
                    {
                        **made,
                        "tokens": reply.tokens,
                        "condition": condition,
                        "seed": settings.seed,
                    }
                )
        records = cast(list[Prediction], journal.finish())
        if fallback is not None:
            said = folder / "fallback.jsonl"
            records = read_again(records, rows, fallback, said, mixed=mixed)
            records = cast(list[Prediction], write_chained(path, records))
        write_json(folder / "scores.json", scores(records, benchmark))
        new = len(rows) - before
        if new or "finished" not in kept:
            seconds = round(time.monotonic() - start, 2)
            edits = {key: kept[key] for key in ("accepted_edits",) if key in kept}
            kept = {**header, **edits}
            kept["finished"] = {"answered": new, "seconds": seconds}
        write_json(about, {**kept, "answers": summary(records)})
    return records


def _reopened(about: Path, edited: str) -> dict[str, Any]:
    """What ``evaluation.json`` says, without ``answers``: they may change from now."""
    kept: dict[str, Any] = read_record(about)
    said = kept.pop("answers", None)
    if edited:
        kept["accepted_edits"] = [*kept.get("accepted_edits", []), edited]
    if said or edited:
        write_json(about, kept)
    return kept


def scores(records: Sequence[Prediction], benchmark: Benchmark) -> dict[str, Any]:
    """Aggregates, what failed where, and ``summarize``'s table, as plain values."""
    table = summarize(records)
    # Older folders may hold what a server wrote in place of a number.
    known = (r.get("tokens") for r in records)
    tokens = [count for count in known if isinstance(count, int | float)]
    return {
        **totals(records, benchmark),
        "failed": {r["id"]: r["failure"] for r in records if r["failure"]},
        "tokens": sum(tokens) / len(tokens) if tokens else None,
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }


def _prepare(folder: Path, header: Mapping[str, Any], overwrite: bool) -> None:
    """Write the header into a new folder; check that an old one has the same."""
    path = folder / "evaluation.json"
    if (folder / "predictions.jsonl").exists() and not overwrite:
        old = read_record(path) if path.exists() else {}
        if old.get("config") != header["config"]:
            raise SpacerError(
                f"{folder} holds answers of another run",
                kind="evaluation.other-run",
                got=_differences(old, header),
                expected="the same model, rows and settings",
                remedy="choose another --out, or --overwrite; `spacer score` reads the "
                "same answers by another rule",
            )
        return
    for name in ("predictions.jsonl", "fallback.jsonl", "scores.json"):
        (folder / name).unlink(missing_ok=True)
    write_json(path, header)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> str:
    """``settings.seed 0, now 1``: where two headers differ."""
    if not old:
        return "no evaluation.json"
    apart = []
    for key in new if not at else {**old, **new}:
        before, now = old.get(key), new.get(key)
        if key in ("config", "name", "profile", *provenance()) or before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            apart.append(_differences(before, now, f"{at}{key}."))
        else:
            apart.append(f"{at}{key} {str(before)[:40]}, now {str(now)[:40]}")
    return "; ".join(apart)


# ---------------------------------------------------------------- our own rows


def evaluate(
    model: Any,
    processor: Any,
    rows: Sequence[Question],
    settings: AskSettings,
    *,
    condition: str,
    out_path: PathLike,
    rewards: RewardConfig | None = None,
) -> list[Prediction]:
    """Ask a model in this process under one condition, score, and resume.

    Parameters
    ----------
    model, processor : of ``backends.load``
    rows : list of Question
    settings : AskSettings
    condition : str
        One of ``CONDITIONS``.
    out_path : path
        JSON lines. Predictions found there count only if model weights, rows and
        settings are the same; others are replaced.
    rewards : RewardConfig, optional
        How completions are scored; SpaceR's if not given.

    Returns
    -------
    list of Prediction
        One per row, in order, with ``condition``, ``tokens``, ``seed`` and ``config``.
        ``score`` is exact match or mean relative accuracy.

    Raises
    ------
    SpacerError
        If an id occurs twice, or a forced map meets a mode without maps.
    """
    rewards = rewards or RewardConfig()
    backend, ids = LocalModel(model, processor, name=condition), unique_ids(rows)
    config = config_hash([depends_on(rows, backend, settings, condition), rewards])
    journal = Journal(out_path, dict.fromkeys(ids, config), fresh=True)
    rule, grid_size = reward_rule(rewards), rewards.grid_size
    for row, (reply,) in ask(
        rows, backend, settings, journal, condition=condition, grid_size=grid_size
    ):
        made = record(row, reply.text, rule, failure=reply.failure, grid_size=grid_size)
        journal.add(
            {
                **made,
                "tokens": reply.tokens,
                "condition": condition,
                "seed": settings.seed,
            }
        )
    return cast(list[Prediction], journal.finish())
