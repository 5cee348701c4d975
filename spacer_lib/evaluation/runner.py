"""Ask held-out questions, score, keep everything, and go on after a stop.

Every prediction is kept as raw text with the hash of everything that produced it.
Missing media and malformed text count as wrong and are named, never skipped.

``run``       a public benchmark and any backend → a folder
``evaluate``  question rows of ours and a model here → a file
"""

import contextlib
import fcntl
import sys
import time
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from spacer_lib.artifacts import (
    append_jsonl,
    config_hash,
    make_folder,
    provenance,
    read_json,
    read_jsonl,
    resume_journal,
    to_jsonable,
    write_json,
    write_jsonl,
)
from spacer_lib.benchmarks import rules_of
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import AskSettings, load
from spacer_lib.evaluation.conditions import (
    WITH_MAP,
    condition_rows,
    condition_video,
)
from spacer_lib.evaluation.config import EvaluationConfig
from spacer_lib.evaluation.fallback import read_again
from spacer_lib.evaluation.floors import floors
from spacer_lib.evaluation.predictions import predict, record
from spacer_lib.evaluation.statistics import summarize, totals
from spacer_lib.language.prompts import TINY_MODES, PromptStyle, media_parts
from spacer_lib.models.generation import generate, weights_fingerprint
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rooms.frames import VideoSettings
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rooms.video import ROOM_SCHEME
from spacer_lib.rows import questions_hash
from spacer_lib.tiny.curriculum import SEEDS, draw_rows

PAPER = EvaluationConfig()
EXTRACTIONS = ("strict", "official", "strict+fallback")


def new_tokens(mode):
    """SpaceR's most new tokens: 1024 with thinking, 128 without (appendix)."""
    return 1024 if mode in ("think", "think_map", "observe") else 128


# ---------------------------------------------------------------- benchmarks


def run(
    benchmark,
    rows,
    backend,
    out_dir,
    *,
    mode=None,
    condition="own",
    extraction="strict",
    video=None,
    max_new_tokens=None,
    temperature=PAPER.temperature,
    top_p=1.0,
    seed=0,
    batch_size=8,
    limit=None,
    overwrite=False,
    fallback=None,
):
    """Ask every row, score it, and write a folder; go on where an earlier run stopped.

    Written are ``predictions.jsonl`` (a line as soon as its answer is there, in the
    rows' order once all are), ``evaluation.json`` (everything the answers depend on)
    and ``scores.json``. A row whose media are missing or broken, or that a server
    refuses, is wrong and says why.

    Parameters
    ----------
    benchmark : Benchmark
    rows : list of dict
        Of its reader.
    backend : Backend
    out_dir : path
    mode : str or PromptStyle, optional
        Answer mode; the benchmark's own if not given.
    condition : str
        One of ``CONDITIONS``.
    extraction : str
        ``strict`` (ours), ``official`` (the benchmark's) or ``strict+fallback``.
    video : VideoSettings, optional
        SpaceR's if not given; see ``EvaluationConfig``, as for all the rest.
    max_new_tokens : int, optional
        See ``new_tokens``.
    temperature, top_p, seed : float, float, int
    batch_size : int
        Of a model in this process.
    limit : int, optional
        Only the first so many rows.
    overwrite : bool
        Drop what the folder holds of other settings.
    fallback : Backend, optional
        Reads the outputs that the rule did not; see ``fallback.read_again``.

    Returns
    -------
    list of dict
        One record per row, in order, as ``predictions.record`` makes them, with
        ``condition``, ``tokens`` (generated; ``None`` if unknown), ``seed`` and
        ``config`` (the hash).

    Raises
    ------
    SpacerError
        If an id occurs twice, the folder holds answers to other settings or is
        written by another run, or the backend cannot go on; what was answered until
        then is kept.
    """
    rows, mode = rows[:limit], mode or benchmark.mode
    ids = _unique_ids(rows)
    if extraction not in EXTRACTIONS:
        raise SpacerError("extraction", got=extraction, expected=EXTRACTIONS)
    mixed = extraction == "strict+fallback"
    if mixed and fallback is None:
        raise SpacerError("extraction", got=extraction, expected="a fallback endpoint")
    _check_map_mode(condition, mode)
    shown, prefixes, blind = condition_rows(rows, condition, seed)
    settings = AskSettings(
        mode,
        condition_video(video or PAPER.video(), condition, seed),
        max_new_tokens or new_tokens(getattr(mode, "mode", mode)),
        temperature,
        top_p,
        seed,
        batch_size,
    )
    rule = rules_of(benchmark)["strict" if mixed else extraction]
    with _sole_writer(make_folder(out_dir)) as out_dir:
        asked = _header(benchmark, rows, backend, settings, condition, extraction)
        done = _resumed(out_dir, asked, overwrite)
        extra = {"condition": condition, "seed": seed, "config": asked["config"]}
        path = out_dir / "predictions.jsonl"
        waiting = _waiting(ids, done, settings.batch_size if backend.batched else 1)
        replies = backend.ask(
            [shown[i] for i in waiting],
            settings,
            blind=blind,
            prefixes=prefixes and [prefixes[i] for i in waiting],
        )
        start = time.monotonic()
        with (
            contextlib.closing(replies),
            tqdm(
                total=len(rows),
                initial=len(rows) - len(waiting),
                desc=backend.name,
                unit="row",
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            for i, reply in replies:
                row = rows[waiting[i]]
                bar.update()
                if row["id"] in done:  # of a batch that was written in part
                    continue
                made = record(row, reply.text, rule, failure=reply.failure)
                made = {**made, "tokens": reply.tokens, **extra}
                append_jsonl(path, [made], sync=True)
                done[row["id"]] = made
        records = [done[name] for name in ids]
        if fallback is not None:
            journal = out_dir / "fallback.jsonl"
            records = read_again(records, rows, fallback, journal, mixed=mixed)
        write_jsonl(path, records)
        write_json(out_dir / "scores.json", scores(records, benchmark))
        header = out_dir / "evaluation.json"
        if waiting or "finished" not in read_json(header):
            seconds = round(time.monotonic() - start, 2)
            asked["finished"] = {"answered": len(waiting), "seconds": seconds}
            write_json(header, asked)
    return records


def scores(records, benchmark):
    """Aggregates, what failed where, and ``summarize``'s table, as plain values."""
    table = summarize(records)
    return {
        **totals(records, benchmark),
        "failed": {r["id"]: r["failure"] for r in records if r["failure"]},
        "tokens": _mean([r["tokens"] for r in records if r["tokens"] is not None]),
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }


def _mean(values):
    return sum(values) / len(values) if values else None


def _header(benchmark, rows, backend, settings, condition, extraction):
    """What the answers depend on, its hash, and where they come from."""
    asked = {
        "benchmark": benchmark.name,
        "condition": condition,
        "extraction": extraction,
        "settings": settings,
        "backend": backend.identity(),
        "rows": {"count": len(rows), "sha256": questions_hash(rows)},
    }
    if not backend.batched:
        asked["settings"] = {**to_jsonable(settings), "batch_size": None}
    if any(str(row.get("video")).startswith(ROOM_SCHEME) for row in rows):
        # A room's video is drawn anew each time, so its camera belongs to the row.
        asked["cameras"] = config_hash(VIEWS)
    asked = to_jsonable(asked)
    config = config_hash(asked)
    return {"name": backend.name, "config": config, **asked, **provenance()}


def _resumed(out_dir, asked, overwrite):
    """Records by id of an earlier run with the same settings; writes the header."""
    header, path = out_dir / "evaluation.json", out_dir / "predictions.jsonl"
    if path.exists() and not overwrite:
        old = read_json(header) if header.exists() else {}
        if old.get("config") != asked["config"]:
            raise SpacerError(
                f"{out_dir} holds answers of another run",
                got=_differences(old, asked),
                expected="the same model, rows and settings",
                remedy="choose another --out, or --overwrite; `spacer score` reads the "
                "same answers by another rule",
            )
        return {record["id"]: record for record in resume_journal(path)}
    for name in ("predictions.jsonl", "fallback.jsonl", "scores.json"):
        (out_dir / name).unlink(missing_ok=True)
    write_json(header, asked)
    return {}


def _differences(old, new, at=""):
    """``settings.seed 0, now 1``: where two headers differ."""
    if not old:
        return "no evaluation.json"
    apart = []
    for key in new if not at else {**old, **new}:
        before, now = old.get(key), new.get(key)
        if key in ("config", "name", *provenance()) or before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            apart.append(_differences(before, now, f"{at}{key}."))
        else:
            apart.append(f"{at}{key} {str(before)[:40]}, now {str(now)[:40]}")
    return "; ".join(apart)


def _waiting(ids, done, unit):
    """Places of the rows to ask: all of a unit in which one is missing."""
    units = [range(i, min(i + unit, len(ids))) for i in range(0, len(ids), unit)]
    return [i for part in units if any(ids[i] not in done for i in part) for i in part]


@contextlib.contextmanager
def _sole_writer(folder):
    """Hold a folder against a second run; the lock ends with the process."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpacerError(
                f"{folder} is in use",
                got="another run that writes it",
                remedy="wait for it, or choose another --out",
            ) from error
        yield folder


def _unique_ids(rows):
    ids = [row["id"] for row in rows]
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise SpacerError("evaluation rows", got=f"id {twice} twice", expected="once")
    return ids


def _check_map_mode(condition, mode):
    name = mode.mode if isinstance(mode, PromptStyle) else mode
    if condition in WITH_MAP and name not in (TINY_MODES[0], "think_map"):
        raise SpacerError(
            f"condition {condition}", got=f"mode {name}", expected="tiny or think_map"
        )


# ---------------------------------------------------------------- our own rows


def evaluate(
    model,
    processor,
    rows,
    *,
    condition,
    out_path,
    mode,
    video=None,
    max_new_tokens=128,
    temperature=0.0,
    top_p=1.0,
    batch_size=32,
    seed=0,
    rewards=None,
):
    """Generate and score under one condition; resume what an earlier run wrote.

    Parameters
    ----------
    condition : str
        One of ``CONDITIONS``.
    out_path : path
        JSON lines, written whole after each batch. Predictions found there count only
        if the hash of model weights, rows and settings is the same.
    rewards : RewardConfig, optional
        How completions are scored.
    others : see ``generate``

    Returns
    -------
    list of dict
        One prediction per row, in order: ``id``, ``scene_name``, ``question_type``,
        ``condition``, ``prediction`` (raw text), ``answer`` (ground truth), ``score``
        (exact match or mean relative accuracy), ``failure``, ``map_failure``,
        ``map_hits``, ``map_total``, ``map_<scorer>``, ``config``, ``seed``.

    Raises
    ------
    SpacerError
        If an id occurs twice, or a forced map meets a mode without maps.
    """
    _check_map_mode(condition, mode)
    ids = _unique_ids(rows)
    video = condition_video(video or VideoSettings(), condition, seed)
    rewards = rewards or RewardConfig()
    settings = dict(
        mode=mode,
        video=video,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        batch_size=batch_size,
        seed=seed,
    )
    fingerprint = config_hash(
        # A room's video is drawn anew each time, so its camera belongs to the row.
        [settings, condition, rewards, weights_fingerprint(model), rows, VIEWS]
    )
    out_path = Path(out_path)
    done = {}
    if out_path.exists():
        found = read_jsonl(out_path)
        done = {p["id"]: p for p in found if p["config"] == fingerprint}
    shown, prefixes, blind = condition_rows(rows, condition, seed, rewards.grid_size)
    predictions = []
    starts = range(0, len(rows), batch_size)
    # A bar on a terminal; it would stay behind in a saved notebook.
    quiet = not sys.stderr.isatty()
    for start in tqdm(starts, desc=condition, unit="batch", disable=quiet):
        # Whole batches: padding changes the last digits of logits, so half a batch
        # could answer differently from the unbroken run.
        batch = slice(start, start + batch_size)
        if all(name in done for name in ids[batch]):
            predictions.extend(done[name] for name in ids[batch])
            continue
        forced = prefixes and prefixes[batch]
        texts = _answers(model, processor, shown[batch], forced, blind, settings)
        for row, text in zip(rows[batch], texts, strict=True):
            extra = {"condition": condition, "config": fingerprint, "seed": seed}
            predictions.append({**predict(row, text, rewards), **extra})
        write_jsonl(out_path, predictions)
    write_jsonl(out_path, predictions)
    return predictions


def _answers(model, processor, rows, prefixes, blind, settings):
    """Completions of one batch; a row whose video or image is gone gets ``None``."""
    there = [
        i
        for i, row in enumerate(rows)
        if blind or all(map(_is_there, media_parts(row)))
    ]
    made = generate(
        model,
        processor,
        [rows[i] for i in there],
        blind=blind,
        prefixes=prefixes and [prefixes[i] for i in there],
        **settings,
    )
    texts = dict(zip(there, made, strict=True))
    return [texts.get(i) for i in range(len(rows))]


def _is_there(part):
    name = str(part[part["type"]])
    return "://" in name or Path(name).exists()


def warmstart_metrics(model_dir, questions=300):
    """What the shipped checkpoint is described by: development rooms, greedy.

    Parameters
    ----------
    model_dir : path
    questions : int
        Per viewpoint and condition.

    Returns
    -------
    dict
        ``{condition: {score, exact, hits, per_task}}`` for the demonstrated and the
        new viewpoint, for another room's video, and the majority floor.
    """
    model, processor = load(model_dir)
    found = {}
    for name, view, condition in (
        ("seen", "seen", "own"),
        ("new", "new", "own"),
        ("another_video", "seen", "other"),
    ):
        rows = draw_rows(SEEDS["develop"], questions, view)
        answers = evaluate(
            model,
            processor,
            rows,
            condition=condition,
            out_path=Path(model_dir).parent / f"answers_{name}.jsonl",
            mode="tiny",
            video=VideoSettings(),
            max_new_tokens=128,
        )
        found[name] = _described(answers)
    found["majority"] = _described(floors(rows))
    return found


def _described(predictions):
    table = summarize(predictions)
    overall = table[table["level"] == "overall"].iloc[0]
    types = table[table["level"] == "question_type"]
    return {
        **{m: round(float(overall[m]), 4) for m in ("score", "exact", "hits")},
        "per_task": {r.name: round(float(r.score), 4) for r in types.itertuples()},
    }
