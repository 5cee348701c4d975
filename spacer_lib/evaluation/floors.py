"""What can be had without a model."""

from collections import Counter

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.backends import Reply, keyed
from spacer_lib.evaluation.predictions import predict
from spacer_lib.language.choices import labelled_options
from spacer_lib.rows import questions_hash

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
    rows : list of dict
        The rows to be answered.
    train_rows : list of dict, optional
        Where answers are counted; without them on ``rows`` themselves, which flatters
        the floor. The name says which.

    Raises
    ------
    SpacerError
        For an unknown kind, or if the training rows lack a task.
    """

    batched = False

    def __init__(self, kind, rows, train_rows=None):
        if kind not in FLOORS:
            raise SpacerError("floor", got=kind, expected=", ".join(FLOORS))
        counted = rows if train_rows is None else train_rows
        self.kind, self.counts = kind, count_answers(counted, rows)
        self.name = f"{kind} of {'these' if train_rows is None else 'training'} rows"
        self.hash = questions_hash(counted)

    def identity(self):
        """The kind, and where answers were counted."""
        return {"backend": "floor", "floor": self.name, "counted": self.hash}

    def ask(self, rows, settings, *, prefixes=None, blind=False):
        """Yield at once; a row's draw depends on the seed and its id."""
        for i, row in enumerate(rows):
            yield i, Reply(self._answer(row, settings.seed), 0)

    def _answer(self, row, seed):
        counts, rng = self.counts[row["question_type"]], keyed(seed, row["id"])
        if self.kind == "majority":
            return most_frequent(counts)
        if self.kind == "random":
            among = sorted(
                labelled_options(row["options"]) if row["options"] else counts
            )
            return among[int(rng.integers(len(among)))]
        answers = sorted(counts)
        shares = np.array([counts[answer] for answer in answers], float)
        return answers[int(rng.choice(len(answers), p=shares / shares.sum()))]


def count_answers(counted, rows):
    """``{task: Counter of answers}`` of the counted rows.

    Raises
    ------
    SpacerError
        If they lack a task of ``rows``.
    """
    counts = {}
    for row in counted:
        answers = counts.setdefault(row["question_type"], Counter())
        answers[row["ground_truth"]] += 1
    absent = {row["question_type"] for row in rows} - set(counts)
    if absent:
        raise SpacerError("majority floor", got=f"no training rows of {sorted(absent)}")
    return counts


def most_frequent(counts):
    """The most frequent answer; ties go to the first in sorting order."""
    return min(counts, key=lambda answer: (-counts[answer], answer))


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
    counts = count_answers(train_rows if train_rows is not None else rows, rows)
    common = {kind: most_frequent(answers) for kind, answers in counts.items()}
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
