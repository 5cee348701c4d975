"""How a raw output becomes an answer: ours, and two that are widely used.

``strict``        the answer tag if there are tags, else the whole text; one letter, one
                  number or nothing
``first_number``  the first number or capital letter A to Z anywhere: many scripts
``last_letter``   the last of them: many others

The two historic rules are there to show what they would have scored on the same
outputs; each benchmark's own rule stands beside its reader.
"""

import re

from spacer_lib.benchmarks.schema import Verdict
from spacer_lib.language.choices import labelled_options, read_choice
from spacer_lib.language.numbers import read_number, unit_of
from spacer_lib.language.tags import read_completion
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rewards.score import score

# Only the answer counts; form and map are scored apart.
_ANSWER_ALONE = RewardConfig(
    format_weight=0.0,
    map_gate="off",
    length_window=None,
    shape="vanilla",
    read_units=True,
)


def strict(text, row):
    """Our rule: exactly one answer that can be read without guessing.

    Parameters
    ----------
    text : str
        Raw output, with or without tags.
    row : dict

    Returns
    -------
    Verdict
        ``failure`` is one of ``completions.FAILURES``, ``NUMBER_FAILURES``,
        ``not_an_option`` or ``answer_too_long``.
    """
    breakdown = score(text, {**row, "map": None}, _ANSWER_ALONE)
    failure = breakdown.answer_failure
    if failure:
        return Verdict(0.0, None, failure)
    answer = read_completion(text, shape="vanilla").answer
    kind = row["problem_type"]
    if kind == "multiple choice":
        answer = read_choice(answer, row["options"])
    elif kind in ("numerical", "regression"):
        answer = f"{read_number(answer, unit_of(row['question']))[0]:.12g}"
    return Verdict(breakdown.task, answer)


_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def first_number(text, row):
    """The first number anywhere, or the first word's capital letter that is an option.

    "Based on the map" is B and "2 or 3" is 2: what a permissive script does.
    """
    if row["problem_type"] == "multiple choice":
        found = re.search(_letters(row), text)
        return _judged_choice(found and found[0], row)
    found = _NUMBER.search(text)
    return _judged_number(found and found[0], row)


def last_letter(text, row):
    """The last number anywhere, or the last capital letter that is an option."""
    pattern = _letters(row) if row["problem_type"] == "multiple choice" else _NUMBER
    found = re.findall(pattern, text)
    last = found[-1] if found else None
    if row["problem_type"] == "multiple choice":
        return _judged_choice(last, row)
    return _judged_number(last, row)


def _letters(row):
    return (
        f"[{''.join(labelled_options(row['options']))}]" if row["options"] else "[A-Z]"
    )


def _judged_choice(letter, row):
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter == row["ground_truth"].strip().upper()), letter)


def _judged_number(digits, row):
    if row["problem_type"] not in ("numerical", "regression"):
        return Verdict(0.0, None, "not_a_number_question")
    if digits is None:
        return Verdict(0.0, None, "no_number")
    truth = float(row["ground_truth"])
    return Verdict(mean_relative_accuracy(float(digits), truth), digits)
