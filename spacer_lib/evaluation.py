"""Held-out questions: generate, score, compare, with floors and intervals.

Every prediction is kept as raw text with the hash of everything that produced it.
Missing media and malformed text count as wrong and are named, never skipped. All
intervals resample physical spaces, since the questions of one room stand and fall
together.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from spacer_lib.artifacts import PROJECT_ROOT, config_hash, read_jsonl, write_jsonl
from spacer_lib.cogmap import SCORERS, map_to_text
from spacer_lib.cogmap import score as map_score
from spacer_lib.completions import read_completion
from spacer_lib.errors import SpacerError
from spacer_lib.metrics import bootstrap_interval
from spacer_lib.models.generation import generate, weights_fingerprint
from spacer_lib.models.inputs import VideoSettings
from spacer_lib.models.rope import POSITION_RULES
from spacer_lib.prompts import media_parts
from spacer_lib.qa.dataset import space_of, task_kind
from spacer_lib.rewards import RewardConfig, score
from spacer_lib.synthetic.light import VIEWS
from spacer_lib.training.curriculum import SEEDS, draw_rows

# own: the room's own video · other: another room's video, own truth · blind: no video
# · oracle: own video and the true map, written as the start of the response.
CONDITIONS = ("own", "other", "blind", "oracle")
MAP_SCORES = tuple(f"map_{scorer}" for scorer in SCORERS)
MEASURES = ("score", "exact", "hits", *MAP_SCORES)


def load(checkpoint, positions="library"):
    """``(model, processor)`` of a checkpoint folder or hub name, as it was saved.

    A relative folder is looked up here first, then in the repository. The model goes
    to a GPU if there is one. ``positions`` is the rule it was trained under
    (``models.rope``): ``original`` for published checkpoints.

    Raises
    ------
    SpacerError
        If there is no such checkpoint.
    """
    # Imported late: spacer_lib.models has to come before transformers.
    from transformers import AutoModelForImageTextToText, AutoProcessor

    places = [Path(checkpoint), PROJECT_ROOT / checkpoint]
    found = [str(p) for p in places if (p / "config.json").exists()]
    name = found[0] if found else str(checkpoint)
    try:
        if not found and Path(checkpoint).is_absolute():
            raise FileNotFoundError("no config.json in this folder")
        model = AutoModelForImageTextToText.from_pretrained(name, dtype="auto")
        processor = AutoProcessor.from_pretrained(name)
    except OSError as error:
        raise SpacerError(
            f"checkpoint {checkpoint}", got=str(error).splitlines()[0],
            expected="a folder written by save_pretrained, or a hub name",
            remedy="fix the path, or make it first (notebook 05, make warmstart)",
        ) from error  # fmt: skip
    POSITION_RULES[positions](model)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor


def condition_rows(rows, condition):
    """What a condition shows.

    Returns
    -------
    shown : list of dict
        The rows; under ``other`` each carries the video of the next room (in order of
        appearance, the last takes the first's), with its own answer and map.
    prefixes : list of str or None
        Under ``oracle``, each response starts with the true map, the question's
        categories last.
    blind : bool

    Raises
    ------
    SpacerError
        For an unknown condition, or ``other`` with a single room.
    """
    if condition not in CONDITIONS:
        raise SpacerError("condition", got=condition, expected=CONDITIONS)
    prefixes = None
    if condition == "oracle":
        prefixes = [
            f"<think><map>{map_to_text(row['map'], last=row['categories'])}</map>"
            for row in rows
        ]
    if condition == "other":
        videos = {}
        for row in rows:
            videos.setdefault(space_of(row["scene_name"]), row["video"])
        spaces = list(videos)
        if len(spaces) < 2:
            raise SpacerError(
                "condition other", got=f"{len(spaces)} room", expected="two or more"
            )
        after = dict(zip(spaces, [*spaces[1:], spaces[0]], strict=True))
        rows = [
            {**row, "video": videos[after[space_of(row["scene_name"])]]} for row in rows
        ]
    return rows, prefixes, condition == "blind"


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
        If an id occurs twice, or the oracle meets a mode without maps.
    """
    if condition == "oracle" and mode not in ("tiny", "think_map"):
        raise SpacerError(
            "condition oracle", got=f"mode {mode}", expected="tiny or think_map"
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
    shown, prefixes, blind = condition_rows(rows, condition)
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


def predict(row, text, rewards=None):
    """Score one completion: the prediction record without run information.

    ``text=None`` stands for missing media: wrong, and named so. The map scores are
    ``None`` for a row without a map.
    """
    rewards = rewards or RewardConfig()
    breakdown = score(text or "", row, rewards)
    reading = read_completion(text or "", grid_size=rewards.grid_size)
    missing = "missing_video" if text is None else None
    scores = {
        f"map_{scorer}": map_score(
            reading.map or {}, row["map"], rewards.grid_size, scorer=scorer
        ) if breakdown.map_total else None
        for scorer in SCORERS
    }  # fmt: skip
    return {
        "id": row["id"],
        "scene_name": row["scene_name"],
        "question_type": row["question_type"],
        "prediction": text or "",
        "answer": row["ground_truth"],
        "score": breakdown.task,
        "failure": missing or breakdown.failure,
        "map_failure": missing or breakdown.map_failure,
        "map_hits": breakdown.map_hits,
        "map_total": breakdown.map_total,
        **scores,
    }


def floors(rows, train_rows=None, rewards=None):
    """The most frequent answer of each question type, scored like a model's.

    Parameters
    ----------
    rows : list of dict
        Questions to answer.
    train_rows : list of dict, optional
        Where frequencies are counted. Without them they are counted on ``rows``
        themselves, which flatters the floor; ``condition`` says which it was
        (``majority of training rows`` or ``majority of these rows``).

    Returns
    -------
    list of dict
        Predictions, as from ``evaluate``.

    Raises
    ------
    SpacerError
        If the training rows lack a question type.
    """
    counts = {}
    for row in train_rows if train_rows is not None else rows:
        counts.setdefault(row["question_type"], Counter())[row["ground_truth"]] += 1
    absent = {row["question_type"] for row in rows} - set(counts)
    if absent:
        raise SpacerError("majority floor", got=f"no training rows of {sorted(absent)}")
    # Ties go to the first in sorting order, so that the floor is one number.
    common = {k: min(c, key=lambda a: (-c[a], a)) for k, c in counts.items()}
    source = "these" if train_rows is None else "training"
    return [
        {
            **predict(row, _constant(common[row["question_type"]]), rewards),
            "condition": f"majority of {source} rows",
        }
        for row in rows
    ]


def _constant(answer):
    return f"<think>always the same</think><answer>{answer}</answer>"


def _frame(predictions):
    if not predictions:
        raise SpacerError("predictions", got="none", expected="at least one")
    table = pd.DataFrame(predictions)
    table["exact"] = (table["score"] > 1 - 1e-9).astype(float)
    table["kind"] = table["question_type"].map(task_kind)
    table["space"] = table["scene_name"].map(space_of)
    return table


def _groups(table):
    """(level, name, rows, weights): what a mean is taken over, and how.

    A kind averages its question types, ``macro`` averages the kinds (VSI-Bench's
    rule); ``overall`` is the mean over rows.
    """
    for name, part in table.groupby("question_type"):
        yield "question_type", name, part, np.ones(len(part))
    for name, part in table.groupby("kind"):
        yield "kind", name, part, _equal_shares(part)
    yield "macro", "macro", table, _equal_shares(table)
    yield "overall", "overall", table, np.ones(len(table))


def _equal_shares(table):
    """Row weights, mean 1: equal say for each kind, and for each type within a kind."""
    rows = table.groupby("question_type")["id"].transform("size")
    types = table.groupby("kind")["question_type"].transform("nunique")
    shares = 1 / (rows * types * table["kind"].nunique())
    return len(table) * shares.to_numpy()


def _influence(table, weights, measure):
    """(n,) values whose mean is the measure, and whose clustered spread is its spread.

    Group averages and shares (hits over instances, map scores over rows that have a
    map) are ratios rather than means of rows; they are replaced by their first-order
    expansion around their own value. Map measures pool all rows, whatever the level.
    """
    if measure == "hits":
        return _ratio(table["map_hits"], table["map_total"])
    values = table[measure].astype(float)
    if measure in MAP_SCORES:
        return _ratio(values.fillna(0), values.notna())
    if np.ptp(weights) == 0:
        return values.to_numpy()
    means = table.groupby("question_type")[measure].transform("mean")
    return (weights * values).mean() + weights * (values - means).to_numpy()


def _ratio(above, below):
    above, below = above.to_numpy(float), below.to_numpy(float)
    if not below.sum():
        return np.full(len(below), np.nan)
    share = above.sum() / below.sum()
    return share + (above - share * below) / below.mean()


def _interval(values, clusters, seed):
    if np.isnan(values).any():
        return np.nan, np.nan, np.nan
    return bootstrap_interval(values, clusters, np.random.default_rng([seed, 31]))


def summarize(predictions, *, seed=0):
    """One tidy table of means with 95% intervals, resampled by physical space.

    Parameters
    ----------
    predictions : list of dict
        Of one model and condition.
    seed : int
        Keys the bootstrap.

    Returns
    -------
    pandas.DataFrame
        Rows: ``level`` (question_type, kind, macro, overall) and ``name``. Columns:
        ``n`` questions, ``spaces``; the ``MEASURES`` (``score``, ``exact``: share
        scored 1, ``hits``: share of instances within 1.5 cells, and the map scores),
        each with ``_low`` and ``_high``; ``failures`` (of answer or format) and
        ``map_failures``, as counts.
    """
    records = []
    for level, name, part, weights in _groups(_frame(predictions)):
        record = {"level": level, "name": name, "n": len(part)}
        record["spaces"] = part["space"].nunique()
        for measure in MEASURES:
            values = _influence(part, weights, measure)
            mean, low, high = _interval(values, part["space"], seed)
            record.update(
                {measure: mean, f"{measure}_low": low, f"{measure}_high": high}
            )
        record["failures"] = int(part["failure"].notna().sum())
        record["map_failures"] = int(part["map_failure"].notna().sum())
        records.append(record)
    return pd.DataFrame(records)


def compare(before, after, *, seed=0):
    """Paired differences, question by question, with clustered 95% intervals.

    Returns
    -------
    pandas.DataFrame
        Rows: level, name and ``measure``; columns ``n``, ``before``, ``after``,
        ``delta``, ``low``, ``high`` and ``verdict``: ``up`` or ``down`` if the
        interval leaves zero out, else ``not distinguishable``.

    Raises
    ------
    SpacerError
        If the two do not answer the same questions.
    """
    first, second = _frame(before), _frame(after)
    if set(first["id"]) != set(second["id"]) or not first["id"].is_unique:
        shared = len(set(first["id"]) & set(second["id"]))
        raise SpacerError(
            "paired comparison", got=f"{shared} shared questions",
            expected=f"all of {len(first)} and {len(second)}, once each",
            remedy="evaluate both models on the same rows",
        )  # fmt: skip
    second = second.set_index("id").loc[first["id"]].reset_index()
    second.index = first.index
    records = []
    for level, name, part, weights in _groups(first):
        other = second.loc[part.index]
        for measure in MEASURES:
            old = _influence(part, weights, measure)
            new = _influence(other, weights, measure)
            delta, low, high = _interval(new - old, part["space"], seed)
            record = {"level": level, "name": name, "measure": measure, "n": len(part)}
            record.update(before=old.mean(), after=new.mean())
            record.update(delta=delta, low=low, high=high, verdict=verdict(low, high))
            records.append(record)
    return pd.DataFrame(records)


def verdict(low, high):
    """An interval of a difference in words."""
    if low > 0:
        return "up"
    return "down" if high < 0 else "not distinguishable"


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
