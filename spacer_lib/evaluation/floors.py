"""What can be had without a model."""

from collections import Counter

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.predictions import predict


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
