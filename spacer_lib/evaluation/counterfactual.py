"""How often answers change beside another room's video, where they should.

Reads predictions under the conditions ``own`` and ``other`` of the same questions. The
answer that is right in the other room comes from its true map by the solver.

Source: ours; the reward of the same name is ``rewards.counterfactual``.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from spacer_lib.errors import SpacerError
from spacer_lib.evaluation.bootstrap import bootstrap_interval
from spacer_lib.evaluation.conditions import next_rooms
from spacer_lib.evaluation.consistency import read_answer
from spacer_lib.rewards.consistency import same_answer, true_answer
from spacer_lib.rewards.counterfactual import changes, differs, truth_elsewhere
from spacer_lib.rooms.scene import space_of
from spacer_lib.rows import Prediction, Question

MEASURES = {
    "changed": "another answer, where the other room has another",
    "kept": "the same answer, where the other room has the same",
    "reward": "mean of the counterfactual reward",
}


def counterfactuals(
    own: Sequence[Prediction], other: Sequence[Prediction], rows: Sequence[Question]
) -> pd.DataFrame:
    """Each question's two answers, and whether they should and do differ.

    Parameters
    ----------
    own, other : list of Prediction
        Under the conditions ``own`` and ``other``, of the same questions.
    rows : list of Question
        All rows that were asked, in the order in which they were asked: ``other`` shows
        the next room of that order.

    Returns
    -------
    pandas.DataFrame
        One row per prediction of ``own``: ``id``, ``space``, ``question_type``,
        ``truth``, ``other_truth`` (``None``: the other room's map does not tell),
        ``answer``, ``other_answer`` and the ``MEASURES``, NaN where one does not apply.

    Raises
    ------
    SpacerError
        If the two hold other questions than each other, or one is not in ``rows``.
    """
    by_id, beside = {row["id"]: row for row in rows}, {p["id"]: p for p in other}
    if {p["id"] for p in own} != set(beside) or not set(beside) <= set(by_id):
        raise SpacerError(
            "predictions under own and other",
            kind="evaluation.other-questions",
            got=f"{len(own)} and {len(beside)} of {len(by_id)} questions",
            expected="the same questions, all among the rows",
        )
    after = next_rooms(rows)
    return pd.DataFrame(
        [_compared(p, beside[p["id"]], by_id[p["id"]], after) for p in own]
    )


def _compared(
    own: Prediction, other: Prediction, row: Question, after: Mapping[str, Question]
) -> dict[str, object]:
    space, elsewhere = space_of(row["scene_name"] or ""), None
    if space in after:
        elsewhere = truth_elsewhere(row, after[space].get("map") or None)
    mine, beside = read_answer(own, row), read_answer(other, row)
    changed = float(changes(mine, beside, row))
    differ = differs(row, elsewhere)
    alike = elsewhere is not None and not differ
    return {
        "id": row["id"],
        "space": space,
        "question_type": row.get("question_type"),
        "truth": true_answer(row),
        "other_truth": elsewhere,
        "answer": mine,
        "other_answer": beside,
        "changed": changed if differ else math.nan,
        "kept": same_answer(mine, beside, row) if alike else math.nan,
        "reward": changed * own["score"] if differ else math.nan,
    }


def counterfactual_shares(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The ``MEASURES`` of a table of ``counterfactuals``, 95% intervals over rooms.

    Returns
    -------
    pandas.DataFrame
        ``measure``, ``n`` (questions that count), ``value``, ``low``, ``high``; a
        measure without any question is left out.
    """
    records = []
    for measure in MEASURES:
        counted = table[table[measure].notna()]
        if len(counted):
            rng = np.random.default_rng([seed, 41])
            value, low, high = bootstrap_interval(
                counted[measure], counted["space"], rng, bounds=(0, 1)
            )
            record = {"measure": measure, "n": len(counted), "value": value}
            records.append({**record, "low": low, "high": high})
    return pd.DataFrame(records)
