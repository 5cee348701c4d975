"""SG-RLVR repeated over seeds and arms, before and after on rooms nobody trained on.

An arm is a change of the recipe's reward: with the map, without it, with SpaceR's
weight and gate of the map, or with the flat map score that SpaceR published.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from spacer_lib.artifacts import make_folder, provenance, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation import MEASURES, compare, evaluate, load, summarize
from spacer_lib.models.inputs import VideoSettings
from spacer_lib.training.config import load_config
from spacer_lib.training.curriculum import SEEDS, draw_rows
from spacer_lib.training.launch import launch

ARMS = {
    "map": {},
    "no_map": {"reward.map_weight": 0.0},
    "paper_map": {"reward.map_weight": 1.0, "reward.map_gate": "paper"},
    "released_map": {"reward.map_scorer": "released"},
}


@dataclass(frozen=True)
class StudyConfig:
    """What is trained and what it is asked.

    Attributes
    ----------
    recipe : str
        Name of the training recipe.
    seeds, arms : tuple
    questions : int
        Held-out questions from the recipe's viewpoint, one room each, the same for
        every run.
    batch_size : int
        Questions answered at a time.
    """

    recipe: str = "tiny"
    seeds: tuple = (0, 1, 2)
    arms: tuple = ("map", "no_map")
    questions: int = 960
    batch_size: int = 60


def run_study(out_dir, config=StudyConfig(), progress=None):
    """Train every (arm, seed), evaluate, and write ``study.json``.

    Finished runs are skipped on a second call, unfinished training resumes.

    Parameters
    ----------
    out_dir : path
    config : StudyConfig
    progress : callable, optional
        Called with one line per finished run.

    Returns
    -------
    dict
        The content of ``study.json``: ``runs`` (arm, seed, before, after, delta,
        seconds), ``arms`` (pooled gains), ``differences`` (``map`` minus each other
        arm, after training), ``settings``, ``provenance``.

    Raises
    ------
    SpacerError
        For an unknown arm.
    """
    unknown = sorted(set(config.arms) - set(ARMS))
    if unknown:
        raise SpacerError("study arm", got=unknown, expected=sorted(ARMS))
    out_dir = make_folder(out_dir)
    view = load_config(config.recipe).view
    rows = draw_rows(SEEDS["test"], config.questions, view)
    records, answers = [], {}
    for arm in config.arms:
        for seed in config.seeds:
            folder = out_dir / f"{arm}_seed{seed}"
            recipe = load_config(config.recipe, {**ARMS[arm], "seed": seed})
            run = launch(recipe, folder, resume=True)
            before = _answer(recipe, recipe.model_path, rows, out_dir, config)
            after = _answer(recipe, run.model_dir, rows, folder, config)
            answers[arm, seed] = before, after
            records.append(run_record(arm, seed, before, after, run.seconds))
            if progress is not None:
                progress(_line(records[-1]))
    study = {
        "runs": records,
        **pool(answers),
        "settings": asdict(config),
        "provenance": provenance(threads=torch.get_num_threads()),
    }
    write_json(out_dir / "study.json", study)
    return study


def _answer(recipe, checkpoint, rows, folder, config):
    # A second call with the same weights reads its predictions back.
    model, processor = load(checkpoint, recipe.positions)
    return evaluate(
        model, processor, rows, condition="own", out_path=folder / "answers.jsonl",
        mode=recipe.prompt_style, batch_size=config.batch_size,
        video=VideoSettings(recipe.frames, recipe.frame_size, recipe.max_pixels),
        max_new_tokens=recipe.max_completion_length,
    )  # fmt: skip


def run_record(arm, seed, before, after, seconds):
    """One run of the study as plain numbers."""
    table = compare(before, after)
    return {
        "arm": arm,
        "seed": seed,
        "before": _state(before),
        "after": _state(after),
        "delta": gains(table),
        "seconds": seconds,
    }


def _state(predictions):
    table = summarize(predictions)
    overall = table[table["level"] == "overall"].iloc[0]
    types = table[table["level"] == "question_type"]
    return {
        **{measure: overall[measure] for measure in MEASURES},
        "per_task": dict(zip(types["name"], types["score"], strict=True)),
        "failures": overall["failures"],
    }


def gains(table):
    """A comparison as ``{measure: [mean, low, high], "per_task": {...}, ...}``.

    ``per_task`` and ``per_kind`` hold the score's difference.
    """

    def triple(row):
        # JSON has no NaN: the interval of a single room is [null, null].
        return [None if np.isnan(v) else v for v in (row.delta, row.low, row.high)]

    overall = table[table["level"] == "overall"]
    scores = table[table["measure"] == "score"]
    found = {row.measure: triple(row) for row in overall.itertuples()}
    for key, level in (("per_task", "question_type"), ("per_kind", "kind")):
        part = scores[scores["level"] == level]
        found[key] = {row.name: triple(row) for row in part.itertuples()}
    return found


def pool(answers):
    """Gains over all seeds of an arm, and the map arm against each other arm.

    The same rooms are asked in every run, so intervals resample rooms with all their
    seeds together. They hold for these seeds: three are too few to speak of others.

    Parameters
    ----------
    answers : dict
        ``{(arm, seed): (predictions before, predictions after)}``.

    Returns
    -------
    dict
        ``arms``: {arm: gains}; ``differences``: {"map minus <arm>": gains}.
    """
    arms = {arm: None for arm, _ in answers}
    pooled = {}
    for arm in arms:
        before = _tagged((s, pair[0]) for (a, s), pair in answers.items() if a == arm)
        after = _tagged((s, pair[1]) for (a, s), pair in answers.items() if a == arm)
        arms[arm] = gains(compare(before, after))
        pooled[arm] = after
    differences = {
        f"map minus {arm}": gains(compare(pooled[arm], pooled["map"]))
        for arm in arms
        if arm != "map" and "map" in arms
    }
    return {"arms": arms, "differences": differences}


def _tagged(seeds_and_predictions):
    """All predictions in one list, ids made distinct by the seed."""
    return [
        {**prediction, "id": f"{seed}/{prediction['id']}"}
        for seed, predictions in seeds_and_predictions
        for prediction in predictions
    ]


def _line(record):
    parts = [f"{record['arm']} seed {record['seed']}: {record['seconds']:.0f} s"]
    for measure in ("score", "exact", "hits"):
        mean, low, high = record["delta"][measure]
        parts.append(f"{measure} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return ", ".join(parts)
