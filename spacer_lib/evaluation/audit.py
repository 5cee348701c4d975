"""The same outputs under every extraction rule: how much of a score is the reader's.

Five public harnesses give one model 32.5 to 38.7 on VSI-Bench; here the outputs are
fixed and only the rule differs.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd

from spacer_lib.benchmarks import rules_of
from spacer_lib.evaluation.predictions import record
from spacer_lib.evaluation.statistics import summarize
from spacer_lib.language.tags import read_completion
from spacer_lib.questions.generators import task_kind

REFERENCE = "strict"
LEVELS = ("kind", "macro", "overall")


class Audit(NamedTuple):
    """What the rules make of the same outputs.

    Attributes
    ----------
    table : pandas.DataFrame
        One line per ``rule`` and task (``level``, ``name`` as of ``summarize``): ``n``,
        ``score``, ``score_low``, ``score_high``, ``answered``, ``wrong``, ``unread``.
    reasons : pandas.DataFrame
        Why nothing was read: ``rule``, ``name`` (task), ``reason``, ``n``.
    agreement : pandas.DataFrame
        Rules by rules: share of outputs that both score alike.
    disagreements : list of dict
        Every output that a rule and ``REFERENCE`` score differently, with what each
        read: largest differences first, rule by rule.
    """

    table: pd.DataFrame
    reasons: pd.DataFrame
    agreement: pd.DataFrame
    disagreements: list


def audit_rules(benchmark):
    """``{name: rule}``: all of ``rules_of``, and the official one after the tag."""

    def official_after_tag(text, row):
        return benchmark.official(tagged_answer(text), row)

    return {**rules_of(benchmark), "official_after_tag": official_after_tag}


def tagged_answer(text):
    """What stands in the one answer tag; the whole text where there is no such tag.

    Rules from before thinking models look at the first word, which is then a tag.

    Examples
    --------
    >>> tagged_answer("<think>two</think><answer> B </answer>"), tagged_answer("B")
    ('B', 'B')
    """
    answer = read_completion(text, shape="vanilla").answer
    return text if answer is None else answer


def audit(rows, answers, benchmark):
    """Score the same outputs under every rule.

    Parameters
    ----------
    rows, answers : list
        Of ``foreign.gather``.
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
        for name, rule in audit_rules(benchmark).items()
    }
    tables, reasons = [], []
    for name, records in made.items():
        table = summarize(records).rename(columns={"failures": "unread"})
        table = table[table["level"].isin(LEVELS)]
        answered = table["n"] - table["unread"]
        tables.append(table.assign(rule=name, answered=answered))
        unread = Counter(
            # "missing_media: <path>" counts as missing_media.
            (task_kind(r["question_type"]), r["failure"].partition(":")[0])
            for r in records
            if r["failure"]
        )
        reasons += [(name, *pair, count) for pair, count in unread.most_common()]
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
        pd.DataFrame(alike),
        [case for name in made if name != REFERENCE for case in _cases(made, name)],
    )


def _cases(made, name):
    cases = [
        {
            "id": ours["id"],
            "question_type": ours["question_type"],
            "rule": name,
            "prediction": ours["prediction"],
            "truth": ours["answer"],
            **{
                f"{side}_{key}": verdict[key]
                for side, verdict in (("reference", ours), ("rule", theirs))
                for key in ("extracted", "score", "failure")
            },
        }
        for ours, theirs in zip(made[REFERENCE], made[name], strict=True)
        if not np.isclose(ours["score"], theirs["score"])
    ]
    return sorted(cases, key=lambda c: -abs(c["reference_score"] - c["rule_score"]))
