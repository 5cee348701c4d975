"""The same outputs under every reading rule: how much a score depends on the rule.

The outputs are fixed and only the rule differs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from spacer_lib.benchmarks import rules_of
from spacer_lib.benchmarks.schema import Benchmark
from spacer_lib.evaluation.foreign import Answer
from spacer_lib.evaluation.predictions import reason, record
from spacer_lib.evaluation.statistics import summarize
from spacer_lib.questions.generators import task_kind
from spacer_lib.rows import Prediction, Question

REFERENCE = "strict"
LEVELS = ("kind", "macro", "overall")


class Audit(NamedTuple):
    """What each rule reads in the same outputs.

    Attributes
    ----------
    table : pandas.DataFrame
        One line per ``rule`` and task (``level``, ``name`` as of ``summarize``): ``n``,
        ``score``, ``score_low``, ``score_high``, ``answered``, ``wrong``, ``unread``.
    reasons : pandas.DataFrame
        Why nothing was read: ``rule``, ``name`` (task), ``reason``, ``n``.
    readings : pandas.DataFrame
        How answers were read, for the rules that say so: ``rule``, ``name`` (task),
        ``how``, ``n``.
    agreement : pandas.DataFrame
        Rules by rules: share of outputs that both score alike.
    disagreements : list of dict
        Every output that a rule and ``REFERENCE`` score differently, with what each
        read. Rule by rule, largest differences first.
    """

    table: pd.DataFrame
    reasons: pd.DataFrame
    readings: pd.DataFrame
    agreement: pd.DataFrame
    disagreements: list[dict[str, Any]]


def audit(
    rows: Sequence[Question], answers: Sequence[Answer], benchmark: Benchmark
) -> Audit:
    """Score the same outputs under every rule.

    Parameters
    ----------
    rows : list of Question
    answers : list of Answer
        One for each row; see ``foreign.gather``.
    benchmark : Benchmark

    Returns
    -------
    Audit
    """
    made = {
        name: [
            record(row, answer.text, rule, failure=answer.failure)
            for row, answer in zip(rows, answers, strict=True)
        ]
        for name, rule in rules_of(benchmark).items()
    }
    tables: list[pd.DataFrame] = []
    reasons: list[tuple[str, str, str, int]] = []
    readings: list[tuple[str, str, str, int]] = []
    for name, records in made.items():
        table = summarize(records).rename(columns={"failures": "unread"})
        table = table[table["level"].isin(LEVELS)]
        answered = table["n"] - table["unread"]
        tables.append(table.assign(rule=name, answered=answered))
        unread = Counter(
            (task_kind(r["question_type"]), reason(r["failure"]))
            for r in records
            if r["failure"]
        )
        reasons += [(name, *pair, count) for pair, count in unread.most_common()]
        read = Counter(
            (task_kind(r["question_type"]), how) for r in records if (how := r["how"])
        )
        readings += [(name, *pair, count) for pair, count in read.most_common()]
    columns = [
        "rule",
        "level",
        "name",
        "n",
        "score",
        "score_low",
        "score_high",
        "answered",
        "wrong",
        "unread",
    ]
    scores = {name: np.array([r["score"] for r in rs]) for name, rs in made.items()}
    alike = {
        one: {two: np.isclose(first, second).mean() for two, second in scores.items()}
        for one, first in scores.items()
    }
    return Audit(
        pd.concat(tables, ignore_index=True)[columns],
        pd.DataFrame(reasons, columns=["rule", "name", "reason", "n"]),
        pd.DataFrame(readings, columns=["rule", "name", "how", "n"]),
        pd.DataFrame(alike),
        [case for name in made if name != REFERENCE for case in _cases(made, name)],
    )


def _cases(made: Mapping[str, Sequence[Prediction]], name: str) -> list[dict[str, Any]]:
    cases = [
        {
            "id": ours["id"],
            "question_type": ours["question_type"],
            "rule": name,
            "prediction": ours["prediction"],
            "truth": ours["answer"],
            **{
                f"{side}_{key}": value
                for side, by in (("reference", ours), ("rule", theirs))
                for key, value in by.items()
                if key in ("extracted", "score", "failure")
            },
        }
        for ours, theirs in zip(made[REFERENCE], made[name], strict=True)
        if not np.isclose(ours["score"], theirs["score"])
    ]
    return sorted(cases, key=lambda c: -abs(c["reference_score"] - c["rule_score"]))
