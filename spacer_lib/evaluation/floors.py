"""Floors: scores that are reached without looking at the video.

``Floor``      a backend that answers from counts of other rows
``floors``     every counted floor of our own question rows
``counted``    the same, of the questions that predictions answer
``strongest``  for each task the best of several floors, a model without video included

Answers are counted on training rows, or on the rows themselves. Either way a row's own
room is left out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from spacer_lib.benchmarks.rules import strict
from spacer_lib.benchmarks.schema import Rule
from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.evaluation.replies import Replies, Reply, keyed
from spacer_lib.evaluation.statistics import require_scores, summarize
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.choices import labelled_options
from spacer_lib.questions.generators import task_kind
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Prediction, Question, questions_hash

FLOORS = ("strongest", "majority", "constant", "category", "frequency", "random")
COUNTED = ("majority", "constant", "category", "frequency")  # strongest is one of these
# Rows that all questions of a task weigh against those of one category or pair: without
# it a pair that was counted once would decide alone.
PRIOR_ROWS = 5
_QUESTION = {"question", "options", "problem_type"}  # keys of a prediction to ask again
_MOST_CONSTANTS = 100  # different answers that are tried, the most frequent first


class Floor:
    """Answers without looking.

    ``majority``   the most frequent answer of the row's task: what VSI-Bench calls
                   chance level (frequency)
    ``constant``   the one answer to the task with the highest mean score under ``rule``
    ``category``   the same for the categories that are asked about; of options, the
                   words that are right most often where they are offered
    ``frequency``  an answer of the task, as often as it occurs
    ``random``     any option with equal chance; without options, any of the task's
                   different answers: chance level
    ``strongest``  for each task that of ``COUNTED`` with the highest score on ``rows``

    Parameters
    ----------
    kind : str
    rows : list of Question
        To be answered.
    train_rows : list of Question, optional
        Where answers are counted; without them, on the other rooms of ``rows``. The
        name says which.
    rule : callable, optional
        The reading rule that scores answers; ours if not given.

    Attributes
    ----------
    chosen : dict
        Of ``strongest``: ``{task: kind of floor}``.

    Raises
    ------
    SpacerError
        For an unknown kind, or if no other room asks a task of ``rows``.
    """

    batched = False

    def __init__(
        self,
        kind: str,
        rows: Sequence[Question],
        train_rows: Sequence[Question] | None = None,
        rule: Rule = strict,
    ) -> None:
        if kind not in FLOORS:
            raise SpacerError(
                "floor",
                kind="evaluation.unknown-floor",
                got=kind,
                expected=", ".join(FLOORS),
            )
        counted = rows if train_rows is None else train_rows
        self.kind, self.rule = kind, rule
        self.counts = count_answers(counted, rows, rule)
        self.name = (
            f"{kind} of {'other rooms' if train_rows is None else 'training rows'}"
        )
        self.hash = questions_hash(counted)
        self.chosen: dict[str, str] = {}
        if kind == "strongest":
            scores = {name: self._mean_scores(name, rows) for name in COUNTED}
            self.chosen = _best(scores)

    def identity(self) -> dict[str, Any]:
        """The kind, and where answers were counted."""
        said = {"backend": "floor", "floor": self.name, "counted": self.hash}
        return said | ({"chosen": self.chosen} if self.chosen else {})

    def ask(
        self,
        rows: Sequence[Question],
        settings: AskSettings,
        *,
        prefixes: Sequence[str] | None = None,
        blind: bool = False,
    ) -> Replies:
        """Yield at once; a row's draw depends on the seed and its id."""
        for i, row in enumerate(rows):
            yield i, Reply(self.answer(row, settings.seed), 0)

    def answer(self, row: Question, seed: int = 0) -> str:
        """The bare answer to one row."""
        kind = self.chosen.get(task_kind(row["question_type"]), self.kind)
        return self._answer(kind, row, seed)

    def _answer(self, kind: str, row: Question, seed: int = 0) -> str:
        task = self.counts[row["question_type"]]
        if kind in ("majority", "constant", "category"):
            ways: dict[str, Callable[[Question], str]] = {
                "majority": task.majority,
                "constant": task.constant,
                "category": task.category,
            }
            return ways[kind](row)
        counts, rng = task.answers(_space(row)), keyed(seed, row["id"])
        answers = sorted(counts)
        if kind == "random":
            options = row.get("options")
            among = sorted(labelled_options(options)) if options else answers
            return among[int(rng.integers(len(among)))]
        shares = np.array([counts[answer] for answer in answers], float)
        return answers[int(rng.choice(len(answers), p=shares / shares.sum()))]

    def _mean_scores(self, kind: str, rows: Sequence[Question]) -> dict[str, float]:
        scores = [self.rule(self._answer(kind, row), row).score for row in rows]
        return _task_means([row["question_type"] for row in rows], scores)


# ---------------------------------------------------------------- counting


class Counts:
    """The counted rows of one task, and what each answer would score on them.

    Parameters
    ----------
    rows : list of Question
        Of one ``question_type``.
    rule : callable
        Scores an answer to a row.
    """

    def __init__(self, rows: Sequence[Question], rule: Rule) -> None:
        self.rows, self.rule = rows, rule
        self.spaces = np.array([_space(row) for row in rows])
        self.keys = np.array([_asked(row) for row in rows])
        self._kept: dict[tuple[str, str], str] = {}

    def elsewhere(self, space: str) -> npt.NDArray[np.bool_]:
        """(rows,) which rows are not of this room."""
        return self.spaces != space

    def answers(self, space: str) -> Counter[str]:
        """How often each answer is right in other rooms."""
        away = self.elsewhere(space)
        return Counter(
            row["ground_truth"]
            for row, other in zip(self.rows, away, strict=True)
            if other
        )

    def majority(self, row: Question) -> str:
        """The answer that is right most often elsewhere."""
        space = _space(row)
        if (space, "") not in self._kept:
            self._kept[space, ""] = most_frequent(self.answers(space))
        return self._kept[space, ""]

    def constant(self, row: Question) -> str:
        """The answer that scores most on all rows elsewhere."""
        return self._highest(_space(row), None)

    def category(self, row: Question) -> str:
        """The answer, or the option, that scores most where the same is asked."""
        options = labelled_options(row.get("options") or ())
        if row["ground_truth"] not in options:
            return self._highest(_space(row), _asked(row))
        offered, right = self._option_counts(_space(row))
        chance = PRIOR_ROWS / len(options)
        rates = {
            letter: (right[words.lower()] + chance)
            / (offered[words.lower()] + PRIOR_ROWS)
            for letter, words in options.items()
        }
        return min(rates, key=lambda letter: (-rates[letter], letter))

    def _highest(self, space: str, key: str | None) -> str:
        kept = (space, f"={key}")
        if kept not in self._kept:
            away = self.elsewhere(space)
            value = self._scores[:, away].mean(axis=1)
            if key is not None:
                same = away & (self.keys == key)
                value = PRIOR_ROWS * value + self._scores[:, same].sum(axis=1)
            self._kept[kept] = self._constants[int(value.argmax())]
        return self._kept[kept]

    @cached_property
    def _constants(self) -> list[str]:
        """Answers to try: those that occur; of numbers, their percentiles too."""
        counts = Counter(row["ground_truth"] for row in self.rows)
        ordered = sorted(counts, key=lambda answer: (-counts[answer], answer))
        tried = ordered[:_MOST_CONSTANTS]
        try:
            numbers = [float(row["ground_truth"]) for row in self.rows]
        except ValueError:
            return tried
        cuts = np.percentile(numbers, np.arange(1, 100))
        return list(dict.fromkeys([*tried, *(f"{cut:.4g}" for cut in cuts)]))

    @cached_property
    def _scores(self) -> npt.NDArray[np.float64]:
        """(constants, rows): what each constant scores on each row."""
        kept: dict[tuple[Any, ...], float] = {}

        def one(answer: str, row: Question) -> float:
            key = (answer, row["ground_truth"], tuple(row.get("options") or ()))
            if key not in kept:
                kept[key] = self.rule(answer, row).score
            return kept[key]

        return np.array([[one(a, row) for row in self.rows] for a in self._constants])

    def _option_counts(self, space: str) -> tuple[Counter[str], Counter[str]]:
        """How often each option's words are offered, and right, in other rooms."""
        offered, right = Counter(self._options[""][0]), Counter(self._options[""][1])
        for total, own in zip((offered, right), self._options[space], strict=True):
            total.subtract(own)
        return offered, right

    @cached_property
    def _options(self) -> dict[str, tuple[Counter[str], Counter[str]]]:
        """``{room: (offered, right)}``; ``""`` is all rooms."""
        found: dict[str, tuple[Counter[str], Counter[str]]] = defaultdict(
            lambda: (Counter(), Counter())
        )
        for row, space in zip(self.rows, self.spaces, strict=True):
            options = labelled_options(row.get("options") or ())
            for letter, words in options.items():
                for room in ("", str(space)):
                    found[room][0][words.lower()] += 1
                    found[room][1][words.lower()] += letter == row["ground_truth"]
        return found


def _space(row: Question) -> str:
    return space_of(str(row.get("scene_name") or row["id"]))


def _asked(row: Question) -> str:
    """What is asked about, as the question's words in sorting order.

    A distance from the chair to the table is one from the table to the chair.
    """
    return " ".join(sorted(re.findall(r"\w+", str(row.get("question") or "").lower())))


def count_answers(
    counted: Sequence[Question], rows: Sequence[Question], rule: Rule = strict
) -> dict[str, Counts]:
    """``{task: Counts}`` of the counted rows.

    Raises
    ------
    SpacerError
        If no other room than a row's own asks the row's task.
    """
    parts: dict[str, list[Question]] = {}
    for row in counted:
        parts.setdefault(row["question_type"], []).append(row)
    counts = {task: Counts(part, rule) for task, part in parts.items()}
    rooms = {(row["question_type"], _space(row)) for row in rows}
    absent = {
        task
        for task, space in rooms
        if task not in counts or not counts[task].elsewhere(space).any()
    }
    if absent:
        raise SpacerError(
            "floor",
            kind="evaluation.task-not-counted",
            got=f"no rows of other rooms for {', '.join(sorted(absent))}",
            expected="rows of every task, of two rooms or more",
            remedy="count answers on other rows (--train-data)",
        )
    return counts


def most_frequent(counts: Mapping[str, int]) -> str:
    """The most frequent answer; ties go to the first in sorting order."""
    return min(counts, key=lambda answer: (-counts[answer], answer))


def floors(
    rows: Sequence[Question],
    train_rows: Sequence[Question] | None = None,
    rewards: RewardConfig | None = None,
    kinds: Sequence[str] = COUNTED,
) -> dict[str, list[Prediction]]:
    """Counted floors of our own question rows, scored as a model's answers are.

    Parameters
    ----------
    rows, train_rows : of ``Floor``
    rewards : RewardConfig, optional
        As of ``evaluate``.
    kinds : sequence of str
        Of ``FLOORS``.

    Returns
    -------
    dict
        ``{kind: predictions}``. ``condition`` says where answers were counted, such as
        ``majority of training rows``.

    Raises
    ------
    SpacerError
        As of ``Floor``.
    """
    read = reward_rule(rewards)

    def rule(text: str, row: Question) -> Any:
        return read(_tagged(text), row)

    return {
        kind: _predictions(Floor(kind, rows, train_rows, rule), rows, read, _tagged)
        for kind in kinds
    }


def counted(
    predictions: Sequence[Prediction], rule: Rule
) -> dict[str, list[Prediction]]:
    """Counted floors of the questions that predictions answer, counted on other rooms.

    Parameters
    ----------
    predictions : list of Prediction
    rule : callable
        The reading rule that scored them.

    Returns
    -------
    dict
        ``{name of the floor: predictions}``. Empty if predictions lack their questions,
        or if a task is asked in one room only, so that there is nothing to count.
    """
    if not all(_QUESTION <= set(prediction) for prediction in predictions):
        return {}
    rows = [cast(Question, {**p, "ground_truth": p["answer"]}) for p in predictions]
    rooms: dict[str, set[str]] = {}
    for row in rows:
        rooms.setdefault(row["question_type"], set()).add(_space(row))
    if min(map(len, rooms.values())) < 2:
        return {}
    made = [Floor(kind, rows, rule=rule) for kind in COUNTED]
    return {floor.name: _predictions(floor, rows, rule) for floor in made}


def _predictions(
    floor: Floor, rows: Sequence[Question], rule: Rule, form: Callable[[str], str] = str
) -> list[Prediction]:
    return [
        {**record(row, form(floor.answer(row)), rule), "condition": floor.name}
        for row in rows
    ]


def _tagged(answer: str) -> str:
    return f"<think>always the same</think><answer>{answer}</answer>"


# ---------------------------------------------------------------- the strongest


@dataclass(frozen=True)
class Strongest:
    """For each task the floor with the highest score.

    It is chosen on the very rows that are asked, which can only raise it.

    Attributes
    ----------
    records : list of Prediction
        Each task's from its floor.
    names : dict
        ``{task: name of the floor}``.
    table : DataFrame
        ``summarize`` of the records, with a column ``strongest``: the floor's name for
        a task and its question types, ``each task's`` for means over tasks.
    """

    records: list[Prediction]
    names: dict[str, str]
    table: pd.DataFrame


def strongest(parts: Mapping[str, Sequence[Prediction]], *, seed: int = 0) -> Strongest:
    """The best floor of each task, of several that answer the same rows.

    Parameters
    ----------
    parts : dict
        ``{name: predictions}``: counted floors, a model without video, a model with
        another room's video. Of equal ones the first is taken.
    seed : int
        Keys the bootstrap.

    Raises
    ------
    SpacerError
        If there is none, they do not answer the same rows, or a score is no share.
    """
    by_id = {name: {p["id"]: p for p in part} for name, part in parts.items()}
    asked = [set(answers) for answers in by_id.values()]
    if not asked or any(ids != asked[0] for ids in asked):
        raise SpacerError(
            "floors",
            kind="evaluation.other-questions",
            got=", ".join(f"{name}: {len(part)} rows" for name, part in parts.items())
            or "none",
            expected="floors of the same rows",
        )
    for part in parts.values():
        require_scores(part)
    means = {
        name: _task_means(
            [p["question_type"] for p in part], [p["score"] for p in part]
        )
        for name, part in parts.items()
    }
    names = _best(means)
    first = next(iter(parts.values()))
    records = [by_id[names[task_kind(p["question_type"])]][p["id"]] for p in first]
    table = summarize(records, seed=seed)
    table["strongest"] = [
        names.get(task_kind(str(name)), "each task's") for name in table["name"]
    ]
    return Strongest(records, names, table)


def _task_means(types: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """``{task: mean}``; the question types of a task weigh the same, as in tables."""
    table = pd.DataFrame({"type": types, "score": scores})
    means = table.groupby("type")["score"].mean()
    return cast(
        dict[str, float], means.groupby(means.index.map(task_kind)).mean().to_dict()
    )


def _best(means: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """``{task: name}`` of the highest mean; of equal ones the first."""
    best: dict[str, str] = {}
    for name, tasks in means.items():
        for task, mean in tasks.items():
            if task not in best or mean > means[best[task]][task] + 1e-12:
                best[task] = name
    return best
