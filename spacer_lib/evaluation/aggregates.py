"""Aggregates of published systems, each as one weight per question.

``micro``             the mean over questions
``macro``             the mean over tasks; VSI-Bench's directions are one task
``tasks_and_subset``  the mean over tasks and, as one more task, the mean over a subset
                      of them: SpaceR's released STI-Bench
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.errors import SpacerError
from spacer_lib.questions.generators import task_kind

AGGREGATES = ("micro", "macro", "tasks_and_subset")


def row_weights(
    aggregate: str, question_types: Sequence[str], benchmark: Benchmark
) -> npt.NDArray[np.float64]:
    """Weights with mean 1 under which the mean score is the aggregate.

    Parameters
    ----------
    aggregate : str
        One of ``AGGREGATES``.
    question_types : sequence of str
        Of the n questions.
    benchmark : Benchmark
        Its first subset is that of ``tasks_and_subset``; without one, or without rows
        in it, this is ``macro``.

    Returns
    -------
    (n,) float64

    Raises
    ------
    SpacerError
        For an unknown aggregate.
    """
    if aggregate not in AGGREGATES:
        raise SpacerError(
            "aggregate",
            kind="evaluation.unknown-aggregate",
            got=aggregate,
            expected=", ".join(AGGREGATES),
        )
    if aggregate == "micro":
        return np.ones(len(question_types))
    rows = Counter(question_types)
    types = Counter(map(task_kind, rows))
    share = dict.fromkeys(types, 1 / len(types))
    inside = set(next(iter(benchmark.subsets.values()), ())) & set(types)
    if aggregate == "tasks_and_subset" and inside:
        share = {
            kind: (1 + (kind in inside) / len(inside)) / (len(types) + 1)
            for kind in types
        }
    each = {t: share[task_kind(t)] / types[task_kind(t)] / rows[t] for t in rows}
    return np.array([each[name] for name in question_types]) * len(question_types)
