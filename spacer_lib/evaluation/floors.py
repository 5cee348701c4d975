"""Floors: scores that are reached without looking at the video."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import Replies, Reply, keyed
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.language.asking import AskSettings
from spacer_lib.language.choices import labelled_options
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rows import Prediction, Question, questions_hash

FLOORS = ("majority", "frequency", "random")


class Floor:
    """Answers without looking.

    ``majority``   the most frequent answer of the row's task: what VSI-Bench calls
                   chance level (frequency)
    ``frequency``  an answer of the task, as often as it occurs
    ``random``     any option with equal chance; without options, any of the task's
                   different answers: chance level

    Parameters
    ----------
    kind : str
    rows : list of Question
        To be answered.
    train_rows : list of Question, optional
        Where answers are counted. Without them they are counted on ``rows`` itself,
        which raises the floor. The name says which.

    Raises
    ------
    SpacerError
        For an unknown kind, or if the training rows lack a task.
    """

    batched = False

    def __init__(
        self,
        kind: str,
        rows: Sequence[Question],
        train_rows: Sequence[Question] | None = None,
    ) -> None:
        if kind not in FLOORS:
            raise SpacerError(
                "floor",
                kind="evaluation.unknown-floor",
                got=kind,
                expected=", ".join(FLOORS),
            )
        counted = rows if train_rows is None else train_rows
        self.kind, self.counts = kind, count_answers(counted, rows)
        self.name = f"{kind} of {'these' if train_rows is None else 'training'} rows"
        self.hash = questions_hash(counted)

    def identity(self) -> dict[str, Any]:
        """The kind, and where answers were counted."""
        return {"backend": "floor", "floor": self.name, "counted": self.hash}

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
            yield i, Reply(self._answer(row, settings.seed), 0)

    def _answer(self, row: Question, seed: int) -> str:
        counts, rng = self.counts[row["question_type"]], keyed(seed, row["id"])
        if self.kind == "majority":
            return most_frequent(counts)
        if self.kind == "random":
            options = row.get("options")
            among = sorted(labelled_options(options) if options else counts)
            return among[int(rng.integers(len(among)))]
        answers = sorted(counts)
        shares = np.array([counts[answer] for answer in answers], float)
        return answers[int(rng.choice(len(answers), p=shares / shares.sum()))]


def count_answers(
    counted: Sequence[Question], rows: Sequence[Question]
) -> dict[str, Counter[str]]:
    """``{task: Counter of answers}`` of the counted rows.

    Raises
    ------
    SpacerError
        If they lack a task of ``rows``.
    """
    counts: dict[str, Counter[str]] = {}
    for row in counted:
        answers = counts.setdefault(row["question_type"], Counter())
        answers[row["ground_truth"]] += 1
    absent = {row["question_type"] for row in rows} - set(counts)
    if absent:
        raise SpacerError(
            "floor",
            kind="evaluation.task-not-counted",
            got=f"no training rows of {', '.join(sorted(absent))}",
            expected="rows of every task",
        )
    return counts


def most_frequent(counts: Mapping[str, int]) -> str:
    """The most frequent answer; ties go to the first in sorting order."""
    return min(counts, key=lambda answer: (-counts[answer], answer))


def floors(
    rows: Sequence[Question],
    train_rows: Sequence[Question] | None = None,
    rewards: RewardConfig | None = None,
) -> list[Prediction]:
    """The most frequent answer of each question type, scored like a model's.

    Parameters
    ----------
    rows : list of Question
        To be answered.
    train_rows : list of Question, optional
        As of ``Floor``.
    rewards : RewardConfig, optional
        As of ``evaluate``.

    Returns
    -------
    list of Prediction
        ``condition`` says where answers were counted: ``majority of training rows``
        or ``majority of these rows``.

    Raises
    ------
    SpacerError
        If the training rows lack a question type.
    """
    counts = count_answers(train_rows if train_rows is not None else rows, rows)
    common = {kind: most_frequent(answers) for kind, answers in counts.items()}
    source = "these" if train_rows is None else "training"
    condition, rule = f"majority of {source} rows", reward_rule(rewards)
    return [
        {
            **record(row, _constant(common[row["question_type"]]), rule),
            "condition": condition,
        }
        for row in rows
    ]


def _constant(answer: str) -> str:
    return f"<think>always the same</think><answer>{answer}</answer>"
