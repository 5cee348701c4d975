"""Ask held-out questions, score, keep everything, and go on after a stop.

Every prediction is kept as raw text with the hash of everything that produced it.
Missing media and malformed text count as wrong and are named, never skipped.
"""

import sys
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from spacer_lib.artifacts import config_hash, read_jsonl, write_jsonl
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.conditions import WITH_MAP, condition_rows
from spacer_lib.evaluation.floors import floors
from spacer_lib.evaluation.predictions import predict
from spacer_lib.evaluation.statistics import summarize
from spacer_lib.models.generation import generate, weights_fingerprint
from spacer_lib.models.inputs import VideoSettings
from spacer_lib.prompts import media_parts
from spacer_lib.rewards import RewardConfig
from spacer_lib.synthetic.light import VIEWS
from spacer_lib.training.curriculum import SEEDS, draw_rows


def evaluate(
    model, processor, rows, *, condition, out_path, mode, video=None,
    max_new_tokens=128, temperature=0.0, top_p=1.0, batch_size=32, seed=0,
    rewards=None,
):  # fmt: skip
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
    if condition in WITH_MAP and mode not in ("tiny", "think_map"):
        raise SpacerError(
            f"condition {condition}", got=f"mode {mode}", expected="tiny or think_map"
        )
    ids = [row["id"] for row in rows]
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise SpacerError("evaluation rows", got=f"id {twice} twice", expected="once")
    video, rewards = video or VideoSettings(), rewards or RewardConfig()
    settings = dict(
        mode=mode, video=video, max_new_tokens=max_new_tokens, temperature=temperature,
        top_p=top_p, batch_size=batch_size, seed=seed,
    )  # fmt: skip
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
        i for i, row in enumerate(rows)
        if blind or all(map(_is_there, media_parts(row)))
    ]  # fmt: skip
    made = generate(
        model, processor, [rows[i] for i in there], blind=blind,
        prefixes=prefixes and [prefixes[i] for i in there], **settings,
    )  # fmt: skip
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
            model, processor, rows, condition=condition,
            out_path=Path(model_dir).parent / f"answers_{name}.jsonl", mode="tiny",
            video=VideoSettings(), max_new_tokens=128,
        )  # fmt: skip
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
