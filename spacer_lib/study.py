"""Studies: one recipe trained with several arms and seeds, evaluated before and after.

A study is a YAML file in ``configs/study``: a recipe, and arms that each change it.
An arm may train another recipe, or start from a model that a run of its own prepares.
All runs answer the same questions, about test rooms.
"""

import dataclasses
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from spacer_lib.artifacts import (
    PROJECT_ROOT,
    PathLike,
    make_folder,
    provenance,
    sole_writer,
    write_json,
)
from spacer_lib.errors import SpacerError, nearest
from spacer_lib.evaluation.backends import load
from spacer_lib.evaluation.floors import floors, strongest
from spacer_lib.evaluation.runner import evaluate
from spacer_lib.evaluation.statistics import MEASURES, compare, pooled, summarize
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rooms.synthetic.views import VIEWS
from spacer_lib.rows import Prediction, Question
from spacer_lib.settings import Changes, build, read_yaml, setting_names, setting_pairs
from spacer_lib.tiny.curriculum import SEEDS, draw_rows
from spacer_lib.training.processes.launch import launch
from spacer_lib.training.recipe import TrainConfig, load_config

STUDIES = PROJECT_ROOT / "configs" / "study"
Pair = tuple[list[Prediction], list[Prediction]]  # before and after training
# Metrics of a run's log; a study keeps their means over its first and last steps.
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
ANSWERS = "answers.jsonl"
FLOOR_QUESTIONS = 240  # that floors count answers in


@dataclass(frozen=True)
class Arm:
    """One of the runs that a study compares.

    Attributes
    ----------
    recipe : str
        Recipe instead of the study's; ``""``: the study's.
    set : dict
        Changes of the recipe, keys as for ``load_config``.
    start : Arm or None
        A run, once for all seeds, whose model the arm starts from. It takes the
        study's ``recipe`` if it names none, and never the study's ``set``.
    """

    recipe: str = ""
    set: dict[str, Any] = field(default_factory=dict)
    start: "Arm | None" = None


@dataclass(frozen=True)
class StudyConfig:
    """The settings of a study.

    Attributes
    ----------
    recipe : str
        Name of the training recipe.
    arms : dict
        Arms by name.
    reference : str
        The arm that the others are compared with.
    seeds : tuple of int
    questions : int
        Held-out questions in the recipe's view, one room each, the same for every run.
    views : tuple of str
        Other cameras that every model is asked as many questions about.
    set : dict
        Changes of the recipe in all arms; an arm's own take precedence.
    batch_size : int
        Questions answered at a time.
    """

    recipe: str
    arms: dict[str, Arm]
    reference: str
    seeds: tuple[int, ...] = (0, 1, 2)
    questions: int = 960
    views: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 60

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            raise SpacerError(
                "study: seeds",
                kind="study.seeds",
                got=self.seeds,
                expected="one or more, from 0",
            )
        if self.questions < 2:
            raise SpacerError(
                "study: questions",
                kind="study.questions",
                got=self.questions,
                expected="2 or more",
            )
        if self.batch_size < 1:
            raise SpacerError(
                "study: batch_size",
                kind="study.batch-size",
                got=self.batch_size,
                expected="1 or more",
            )
        for view in self.views:
            if view not in VIEWS:
                raise SpacerError(
                    "study: view",
                    kind="study.view",
                    got=view,
                    remedy=nearest(view, VIEWS),
                )
        for arm in self.arms:
            if not re.fullmatch(r"\w[\w.-]*", arm):
                raise SpacerError(
                    "study: name of an arm",
                    kind="study.arm-name",
                    got=repr(arm)[:80],
                    expected="letters, digits, _, . and -: it names a folder",
                )


# ---------------------------------------------------------------- from YAML


def study_names() -> list[str]:
    """Names of the studies in ``configs/study``."""
    return setting_names(STUDIES)


def load_study(
    name: PathLike = "map",
    *,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    questions: int | None = None,
) -> StudyConfig:
    """A study, by name or path.

    Parameters
    ----------
    name : str or path
        ``map`` means ``configs/study/map.yaml``; anything with a suffix is a path.
    arms : sequence of str, optional
        Only these; by default the file's ``default_arms``, or all.
    seeds, questions : optional
        Instead of the file's.

    Raises
    ------
    SpacerError
        For an unknown study, key or arm, a value of another type, and an arm whose
        recipe cannot be read.
    """
    values = read_yaml(name, STUDIES, what="study")
    default_arms = values.pop("default_arms", None) or []
    if not isinstance(default_arms, list):
        raise SpacerError(
            f"study {name}: default_arms",
            kind="study.default-arms",
            got=reprlib.repr(default_arms),
            expected="a list of arms",
        )
    given = {"seeds": seeds and list(seeds), "questions": questions}
    values |= {key: value for key, value in given.items() if value is not None}
    study = build(StudyConfig, values)
    _require_arm("reference", study.reference, study.arms)
    chosen = list(arms or default_arms or study.arms)
    for arm in chosen:
        _require_arm("study arm", arm, study.arms)
    for arm in chosen:
        _recipes(study, arm, {})
    return dataclasses.replace(study, arms={arm: study.arms[arm] for arm in chosen})


def _require_arm(what: str, arm: str, known: Iterable[str]) -> None:
    if arm not in known:
        raise SpacerError(
            what, kind="study.unknown-arm", got=arm, remedy=nearest(arm, known)
        )


# ---------------------------------------------------------------- the runs


def run_study(
    out_dir: PathLike,
    study: StudyConfig,
    *,
    changes: Changes = (),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train every arm with every seed, evaluate, and write ``study.json``.

    A second call skips finished runs and resumes unfinished ones.

    Parameters
    ----------
    out_dir : path
    study : StudyConfig
    changes : dict or list of str
        Settings of every run, starts included, which take precedence over all others:
        such as ``max_steps`` 2 for a trial.
    progress : callable, optional
        Called with one line per finished run.

    Returns
    -------
    dict
        The content of ``study.json``: ``runs`` (arm, seed, before, after, delta,
        seconds, training, examples), ``arms`` (pooled gains), ``differences`` (the
        reference minus each other arm, after training), ``floors`` (of
        ``floor_scores``), ``views`` (for each other camera its ``runs``, ``arms``,
        ``differences`` and ``floors``), ``settings`` and ``provenance``.

    Raises
    ------
    SpacerError
        For a setting that a recipe does not have.
    """
    say = progress or (lambda line: None)
    out_dir = make_folder(out_dir)
    changes = dict(setting_pairs(changes))
    # All recipes first, so that a misspelt key of the last arm is found before any run.
    recipes = {arm: _recipes(study, arm, changes) for arm in study.arms}
    view = load_config(study.recipe, study.set).view
    rows = {
        camera: draw_rows(SEEDS["test"], study.questions, camera)
        for camera in dict.fromkeys((view, *study.views))
    }
    with sole_writer(out_dir):
        return _run_arms(out_dir, study, recipes, rows, changes, say)


def _run_arms(
    out_dir: Path,
    study: StudyConfig,
    recipes: Mapping[str, tuple[TrainConfig | None, TrainConfig]],
    rows: Mapping[str, list[Question]],
    changes: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    view, *_ = rows  # the recipe's; the others follow
    records: dict[str, list[dict[str, Any]]] = {camera: [] for camera in rows}
    answers: dict[str, dict[tuple[str, int], Pair]] = {camera: {} for camera in rows}
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
            for camera, asked in rows.items():
                file = ANSWERS if camera == view else f"{camera}_{ANSWERS}"
                size = study.batch_size
                pair = (
                    _ask(seeded, path, asked, begin / file, batch_size=size),
                    _ask(seeded, run.model_dir, asked, folder / file, batch_size=size),
                )
                record = run_record(arm, seed, *pair, run.seconds)
                say(f"{camera}: {_line(record)}")
                if camera == view:
                    record["training"] = first_and_last(run.metrics())
                    record["examples"] = _examples(asked, *pair)
                answers[camera][arm, seed] = pair
                records[camera].append(record)
    made = {
        camera: {
            "runs": records[camera],
            **pool(answers[camera], study.reference),
            "floors": floor_scores(rows[camera], camera),
        }
        for camera in rows
    }
    result = {
        **made.pop(view),
        "views": made,
        "settings": {**asdict(study), "changes": changes},
        "provenance": provenance(threads=torch.get_num_threads()),
    }
    write_json(out_dir / "study.json", result)
    return result


def _recipes(
    study: StudyConfig, name: str, changes: Mapping[str, Any]
) -> tuple[TrainConfig | None, TrainConfig]:
    """Recipe of an arm's start, or ``None``, and the arm's recipe."""
    arm, start = study.arms[name], None
    if arm.start is not None:
        recipe = arm.start.recipe or study.recipe
        start = load_config(recipe, {**arm.start.set, **changes})
    recipe = arm.recipe or study.recipe
    return start, load_config(recipe, {**study.set, **arm.set, **changes})


def _ask(
    recipe: TrainConfig,
    checkpoint: PathLike,
    rows: list[Question],
    out_path: Path,
    condition: str = "own",
    batch_size: int = 32,
) -> list[Prediction]:
    # A second call with the same weights reads the predictions that it wrote.
    model, processor = load(checkpoint, recipe.advanced.positions)
    return evaluate(
        model,
        processor,
        rows,
        recipe.asking(batch_size=batch_size),
        condition=condition,
        out_path=out_path,
        # The score is the same for every arm; only the form of completions differs.
        rewards=RewardConfig(shape=recipe.reward.shape),
    )


def floor_scores(rows: list[Question], view: str) -> dict[str, dict[str, Any]]:
    """The strongest floor of each task of a study, counted on development rooms.

    Parameters
    ----------
    rows : list of Question
        That the runs of the study answer.
    view : str
        Their camera.

    Returns
    -------
    dict
        ``{task or macro or overall: {floor, score, low, high}}``.
    """
    train = draw_rows(SEEDS["develop"], FLOOR_QUESTIONS, view)
    table = strongest(floors(rows, train)).table
    table = table[table["level"].isin(("kind", "macro", "overall"))]
    return {
        row.name: {
            "floor": row.strongest,
            "score": row.score,
            "low": None if np.isnan(row.score_low) else row.score_low,
            "high": None if np.isnan(row.score_high) else row.score_high,
        }
        for row in table.itertuples(index=False)
    }


def _examples(
    rows: list[Question],
    before: list[Prediction],
    after: list[Prediction],
    count: int = 3,
) -> list[dict[str, Any]]:
    """The first questions with their completions in full."""
    return [
        {
            "question": row["question"],
            "options": row["options"],
            "ground_truth": row["ground_truth"],
            "before": first["prediction"],
            "after": second["prediction"],
        }
        for row, first, second in list(zip(rows, before, after, strict=True))[:count]
    ]


def first_and_last(
    metrics: Sequence[Mapping[str, Any]], steps: int = WATCHED_STEPS
) -> dict[str, list[float]]:
    """Mean over the first steps and over the last, of each watched metric.

    Parameters
    ----------
    metrics : list of dict
        Rows of ``metrics.jsonl``.
    steps : int
        Logged values at each end.
    """
    found = {}
    for key in WATCHED:
        values = [row[key] for row in metrics if row.get(key) is not None]
        if values:
            ends = values[:steps], values[-steps:]
            found[key] = [float(np.mean(end)) for end in ends]
    return found


def run_record(
    arm: str,
    seed: int,
    before: list[Prediction],
    after: list[Prediction],
    seconds: float,
) -> dict[str, Any]:
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


def _state(predictions: list[Prediction]) -> dict[str, Any]:
    table = summarize(predictions)
    overall = table[table["level"] == "overall"].iloc[0]
    types = table[table["level"] == "question_type"]
    return {
        **{measure: overall[measure] for measure in MEASURES},
        "per_task": dict(zip(types["name"], types["score"], strict=True)),
        "failures": overall["failures"],
    }


def gains(table: pd.DataFrame) -> dict[str, Any]:
    """A comparison as ``{measure: [mean, low, high], "per_task": {...}, ...}``.

    ``per_task`` and ``per_kind`` hold the differences of the score.
    """

    def triple(row: Any) -> list[float | None]:
        # JSON has no NaN: the interval of a single room is [null, null].
        return [None if np.isnan(v) else v for v in (row.delta, row.low, row.high)]

    overall = table[table["level"] == "overall"]
    scores = table[table["measure"] == "score"]
    found: dict[str, Any] = {row.measure: triple(row) for row in overall.itertuples()}
    for key, level in (("per_task", "question_type"), ("per_kind", "kind")):
        part = scores[scores["level"] == level]
        found[key] = {row.name: triple(row) for row in part.itertuples()}
    return found


def pool(
    answers: Mapping[tuple[str, int], Pair], reference: str = "map"
) -> dict[str, Any]:
    """Gains over all seeds of an arm, and the reference against each other arm.

    Every run is asked about the same rooms, so intervals resample rooms with all their
    seeds together. They hold for these seeds only: three are too few for others.

    Parameters
    ----------
    answers : dict
        ``{(arm, seed): (predictions before, predictions after)}``.
    reference : str
        An arm. If it is not among the answers there are no differences.

    Returns
    -------
    dict
        ``arms``: {arm: gains}; ``differences``: {"<reference> minus <arm>": gains}.
    """
    arms: dict[str, dict[str, Any]] = {}
    trained = {}
    for arm in dict.fromkeys(arm for arm, _ in answers):
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


def study_table(study: Mapping[str, Any], measure: str = "score") -> pd.DataFrame:
    """A study in short, one row per arm.

    Parameters
    ----------
    study : dict
        Content of a ``study.json``.
    measure : str
        One of ``evaluation.statistics.MEASURES``.

    Returns
    -------
    pandas.DataFrame
        ``before`` and ``after`` (means over seeds), ``floor`` (the strongest of each
        task; of the score, where the study has it), ``delta`` with ``low`` and
        ``high`` (95%, seeds pooled), ``hits before``, ``hits after``, ``seconds`` of
        training (mean; an arm's start is not counted) and ``seeds``.
    """
    rows, floor = {}, study.get("floors", {}).get("overall")
    for arm, gain in study["arms"].items():
        runs = [run for run in study["runs"] if run["arm"] == arm]

        def mean(side: str, key: str, runs: list[Any] = runs) -> float:
            values = [run[side][key] for run in runs]
            return float(np.mean([np.nan if v is None else v for v in values]))

        rows[arm] = {
            "before": mean("before", measure),
            "after": mean("after", measure),
            **({"floor": floor["score"]} if floor and measure == "score" else {}),
            **dict(zip(("delta", "low", "high"), gain[measure], strict=True)),
            "hits before": mean("before", "hits"),
            "hits after": mean("after", "hits"),
            "seconds": float(np.mean([run["seconds"] for run in runs])),
            "seeds": len(runs),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _line(record: Mapping[str, Any]) -> str:
    parts = [f"{record['arm']} seed {record['seed']}: {record['seconds']:.0f} s"]
    for measure in ("score", "exact", "hits"):
        mean, low, high = record["delta"][measure]
        parts.append(f"{measure} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return ", ".join(parts)


# ---------------------------------------------------------------- the warm start


def warmstart_metrics(
    model_dir: PathLike, recipe: TrainConfig, view: str, questions: int = 300
) -> dict[str, dict[str, Any]]:
    """Scores that describe a shipped checkpoint: development rooms, greedy.

    Parameters
    ----------
    model_dir : path
    recipe : TrainConfig
        That starts from it: prompt, frames, tokens; its view is new to the model.
    view : str
        The demonstrated view.
    questions : int
        Per view and condition.

    Returns
    -------
    dict
        ``{name: {score, exact, hits, per_task}}`` for the demonstrated view (``seen``),
        the new one (``new``), another room's video (``another_video``) and the floors
        (``majority``, ``strongest_floor``).
    """
    found = {}
    for name, camera, condition in (
        ("seen", view, "own"),
        ("new", recipe.view, "own"),
        ("another_video", view, "other"),
    ):
        rows = draw_rows(SEEDS["develop"], questions, camera)
        out = Path(model_dir).parent / f"answers_{name}.jsonl"
        found[name] = _described(_ask(recipe, model_dir, rows, out, condition))
    made = floors(rows)
    found["majority"] = _described(made["majority"])
    found["strongest_floor"] = _described(strongest(made).records)
    return found


def _described(predictions: list[Prediction]) -> dict[str, Any]:
    table = summarize(predictions)
    overall = table[table["level"] == "overall"].iloc[0]
    types = table[table["level"] == "question_type"]
    return {
        **{m: round(float(overall[m]), 4) for m in ("score", "exact", "hits")},
        "per_task": {r.name: round(float(r.score), 4) for r in types.itertuples()},
    }
