"""One recipe repeated over arms and seeds, before and after, on rooms of its own.

A study is a YAML file in ``configs/study``: a recipe, and arms that each change it.
An arm may train another recipe, or start from a model that a run of its own prepares.
"""

import dataclasses
import difflib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from spacer_lib.artifacts import PROJECT_ROOT, make_folder, provenance, write_json
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.evaluation.statistics import MEASURES, compare, pooled, summarize
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.settings import setting_pairs
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import load_config

STUDIES = PROJECT_ROOT / "configs" / "study"
# Of a run's log, the means over its first and last steps that a study keeps.
WATCHED = (
    "reward",
    "rewards/format/mean",
    "rewards/task/mean",
    "rewards/map/mean",
    "rewards/length/mean",
    "map_hit_rate",
    "frac_reward_zero_std",
    "entropy",
    "kl",
    "completions/mean_length",
    "loss",
    "mean_token_accuracy",
    "rewards/margins",
)
WATCHED_STEPS = 10


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    Attributes
    ----------
    recipe : str
        Recipe instead of the study's; ``""``: the study's.
    set : dict
        Changes of it, keys as for ``load_config``.
    start : Arm or None
        A run, once for all seeds, whose model the arm starts from; the study's own
        ``recipe`` and ``set`` are not its.
    """

    recipe: str = ""
    set: dict = field(default_factory=dict)
    start: "Arm | None" = None


@dataclass(frozen=True)
class StudyConfig:
    """What is trained and what it is asked.

    Attributes
    ----------
    recipe : str
        Name of the training recipe.
    arms : dict
        ``{name: Arm}``.
    reference : str
        The arm that differences are counted from.
    seeds : tuple
    questions : int
        Held-out questions from the recipe's viewpoint, one room each, the same for
        every run.
    set : dict
        Changes of the recipe in all arms; an arm's own win.
    batch_size : int
        Questions answered at a time.
    """

    recipe: str
    arms: dict
    reference: str
    seeds: tuple = (0, 1, 2)
    questions: int = 960
    set: dict = field(default_factory=dict)
    batch_size: int = 60

    def __post_init__(self):
        whole = [type(seed) is int and seed >= 0 for seed in self.seeds or ()]
        if not whole or not all(whole):
            raise SpacerError(
                "study: seeds", got=self.seeds, expected="whole numbers, 0 or more"
            )
        if type(self.questions) is not int or self.questions < 2:
            raise SpacerError(
                "study: questions", got=self.questions, expected="2 or more"
            )


# ---------------------------------------------------------------- from YAML


def study_names():
    """Names of the studies in ``configs/study``."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(name="map", *, arms=None, seeds=None, questions=None):
    """A study, by name or path.

    Parameters
    ----------
    name : str or path
        ``map`` means ``configs/study/map.yaml``; anything with a suffix is a path.
    arms : sequence of str, optional
        Only these; by default the file's ``default_arms``, or all.
    seeds, questions : optional
        In place of the file's.

    Returns
    -------
    StudyConfig

    Raises
    ------
    SpacerError
        For an unknown study, key or arm.
    """
    path = Path(name) if Path(name).suffix else STUDIES / f"{name}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpacerError(
            "study", got=name, expected=", ".join(study_names()) + ", or a file"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpacerError(f"study {path} cannot be read", got=error) from error
    if not isinstance(values, dict) or not isinstance(values.get("arms"), dict):
        raise SpacerError(f"study {path}", expected="recipe, reference and arms")
    known = {arm: _arm(v, f"arms.{arm}") for arm, v in values["arms"].items()}
    chosen = list(arms or values.pop("default_arms", None) or known)
    values.pop("default_arms", None)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise SpacerError("study arm", got=unknown, expected=sorted(known))
    values["arms"] = {arm: known[arm] for arm in chosen}
    given = {"seeds": seeds, "questions": questions}
    values |= {key: value for key, value in given.items() if value is not None}
    if not isinstance(values.get("seeds", []), (list, tuple)):
        raise SpacerError("study: seeds", got=values["seeds"], expected="a list")
    if "seeds" in values:
        values["seeds"] = tuple(values["seeds"])
    study = _checked(StudyConfig, values, "")
    if study.reference not in known:
        raise SpacerError("reference", got=study.reference, expected=sorted(known))
    return study


def _arm(values, where):
    arm = _checked(Arm, values, f"{where}.")
    if arm.start is None:
        return arm
    return dataclasses.replace(arm, start=_arm(arm.start, f"{where}.start"))


def _checked(kind, values, prefix):
    fields = dataclasses.fields(kind)
    names = [f.name for f in fields]
    if not isinstance(values, dict):
        raise SpacerError(
            f"study: {prefix.rstrip('.')}", got=values, expected="keys and values"
        )
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            raise SpacerError(
                f"study: unknown key {prefix}{key}",
                expected=", ".join(names),
                remedy=f"did you mean {near[0]}?" if near else None,
            )
    for f in fields:
        if f.name not in values and f.default is f.default_factory:  # both missing
            raise SpacerError(f"study: {prefix}{f.name}", got="nothing")
    return kind(**values)


# ---------------------------------------------------------------- the runs


def run_study(out_dir, study, *, changes=(), progress=None):
    """Train every (arm, seed), evaluate, and write ``study.json``.

    Finished runs are skipped on a second call, unfinished training resumes.

    Parameters
    ----------
    out_dir : path
    study : StudyConfig
    changes : dict or list of str
        Settings of every run, starts included, on top of everything else: for a
        trial with ``max_steps`` 2.
    progress : callable, optional
        Called with one line per finished run.

    Returns
    -------
    dict
        The content of ``study.json``: ``runs`` (arm, seed, before, after, delta,
        seconds, training, examples), ``arms`` (pooled gains), ``differences`` (the
        reference minus each other arm, after training), ``settings``,
        ``provenance``.

    Raises
    ------
    SpacerError
        For a setting that a recipe does not have.
    """
    say = progress or (lambda line: None)
    out_dir = make_folder(out_dir)
    changes = dict(setting_pairs(changes))
    # All recipes first: a misspelt key of the last arm must not wait for the others.
    recipes = {arm: _recipes(study, arm, changes) for arm in study.arms}
    view = load_config(study.recipe, study.set).view
    rows = draw_rows(SEEDS["test"], study.questions, view)
    records, answers = [], {}
    for arm, (start, recipe) in recipes.items():
        begin, path = out_dir, recipe.model_path
        if start is not None:
            begin = out_dir / f"{arm}_start"
            prepared = launch(start, begin, resume=True)
            path = str(prepared.model_dir)
            say(f"{arm} start: {prepared.seconds:.0f} s")
        for seed in study.seeds:
            folder = out_dir / f"{arm}_seed{seed}"
            seeded = dataclasses.replace(recipe, seed=seed, model_path=path)
            run = launch(seeded, folder, resume=True)
            before = _answer(seeded, path, rows, begin, study)
            after = _answer(seeded, run.model_dir, rows, folder, study)
            answers[arm, seed] = before, after
            record = run_record(arm, seed, before, after, run.seconds)
            records.append(
                {
                    **record,
                    "training": first_and_last(run.metrics()),
                    "examples": _examples(rows, before, after),
                }
            )
            say(_line(record))
    result = {
        "runs": records,
        **pool(answers, study.reference),
        "settings": {**asdict(study), "changes": changes},
        "provenance": provenance(threads=torch.get_num_threads()),
    }
    write_json(out_dir / "study.json", result)
    return result


def _recipes(study, name, changes):
    """(recipe of the start or ``None``, recipe) of an arm."""
    arm, start = study.arms[name], None
    if arm.start is not None:
        recipe = arm.start.recipe or study.recipe
        start = load_config(recipe, {**arm.start.set, **changes})
    recipe = arm.recipe or study.recipe
    return start, load_config(recipe, {**study.set, **arm.set, **changes})


def _answer(recipe, checkpoint, rows, folder, study):
    # A second call with the same weights reads its predictions back.
    model, processor = load(checkpoint, recipe.advanced.positions)
    return evaluate(
        model,
        processor,
        rows,
        condition="own",
        out_path=folder / "answers.jsonl",
        mode=recipe.prompt_style,
        batch_size=study.batch_size,
        video=recipe.video_settings,
        max_new_tokens=recipe.max_completion_length,
        # What counts as right is the same for every arm; only the form is its own.
        rewards=RewardConfig(shape=recipe.reward.shape),
    )


def _examples(rows, before, after, count=3):
    """The first answers in full: numbers do not show what a model says."""
    return [
        {
            **{key: row[key] for key in ("question", "options", "ground_truth")},
            "before": first["prediction"],
            "after": second["prediction"],
        }
        for row, first, second in list(zip(rows, before, after, strict=True))[:count]
    ]


def first_and_last(metrics, steps=WATCHED_STEPS):
    """``{key: [mean over the first steps, over the last]}`` of the watched metrics.

    Parameters
    ----------
    metrics : list of dict
        Rows of ``metrics.jsonl``.
    """
    found = {}
    for key in WATCHED:
        values = [row[key] for row in metrics if row.get(key) is not None]
        if values:
            ends = values[:steps], values[-steps:]
            found[key] = [float(np.mean(end)) for end in ends]
    return found


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


def pool(answers, reference="map"):
    """Gains over all seeds of an arm, and the reference against each other arm.

    The same rooms are asked in every run, so intervals resample rooms with all their
    seeds together. They hold for these seeds: three are too few to speak of others.

    Parameters
    ----------
    answers : dict
        ``{(arm, seed): (predictions before, predictions after)}``.
    reference : str
        An arm; without it there are no differences.

    Returns
    -------
    dict
        ``arms``: {arm: gains}; ``differences``: {"<reference> minus <arm>": gains}.
    """
    arms = {arm: None for arm, _ in answers}
    trained = {}
    for arm in arms:
        pairs = {seed: pair for (a, seed), pair in answers.items() if a == arm}
        before, trained[arm] = (
            pooled({seed: pair[side] for seed, pair in pairs.items()})
            for side in (0, 1)
        )
        arms[arm] = gains(compare(before, trained[arm]))
    differences = {
        f"{reference} minus {arm}": gains(compare(trained[arm], trained[reference]))
        for arm in arms
        if arm != reference and reference in arms
    }
    return {"arms": arms, "differences": differences}


# ---------------------------------------------------------------- as a table


def study_table(study, measure="score"):
    """A study at a glance, one row an arm.

    Parameters
    ----------
    study : dict
        Content of a ``study.json``.
    measure : str
        One of ``evaluation.MEASURES``.

    Returns
    -------
    pandas.DataFrame
        ``before`` and ``after`` (means over seeds), ``delta`` with ``low`` and
        ``high`` (95%, seeds pooled), ``hits before``, ``hits after``, ``seconds`` of
        training (mean; an arm's start is not counted) and ``seeds``.
    """
    rows = {}
    for arm, gain in study["arms"].items():
        runs = [run for run in study["runs"] if run["arm"] == arm]

        def mean(side, key, runs=runs):
            values = [run[side][key] for run in runs]
            return float(np.mean([np.nan if v is None else v for v in values]))

        rows[arm] = {
            "before": mean("before", measure),
            "after": mean("after", measure),
            **dict(zip(("delta", "low", "high"), gain[measure], strict=True)),
            "hits before": mean("before", "hits"),
            "hits after": mean("after", "hits"),
            "seconds": float(np.mean([run["seconds"] for run in runs])),
            "seeds": len(runs),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _line(record):
    parts = [f"{record['arm']} seed {record['seed']}: {record['seconds']:.0f} s"]
    for measure in ("score", "exact", "hits"):
        mean, low, high = record["delta"][measure]
        parts.append(f"{measure} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return ", ".join(parts)
