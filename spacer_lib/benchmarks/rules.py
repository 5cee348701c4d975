"""Reading rules: how a completion becomes an answer. Ours, and two common ones.

``strict``        the answer tag if there are tags, else the whole text; one letter, one
                  number or nothing
``first_number``  the first number, or the first capital letter that is an option
``last_letter``   the last of them

The two common rules show what they would have scored on the same completions. Each
benchmark's own rule is in its module.
"""

import re

from spacer_lib.benchmarks.schema import Verdict
from spacer_lib.language.choices import labelled_options, read_choice
from spacer_lib.language.numbers import read_number, unit_of
from spacer_lib.language.tags import read_completion
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.metrics import mean_relative_accuracy
from spacer_lib.rewards.score import score
from spacer_lib.rows import Question

# Only the answer counts; format and map are scored apart.
_ANSWER_ALONE = RewardConfig(
    format_weight=0.0,
    map_gate="off",
    length_window=None,
    shape="vanilla",
    read_units=True,
)


def strict(text: str, row: Question) -> Verdict:
    """Our rule: exactly one answer that can be read without guessing.

    Parameters
    ----------
    text : str
        A completion, with or without tags.
    row : Question

    Returns
    -------
    Verdict
        ``failure`` as ``rewards.score`` names it.
    """
    mapless: Question = {**row, "map": None}
    breakdown = score(text, mapless, _ANSWER_ALONE)
    failure = breakdown.answer_failure
    if failure:
        return Verdict(0.0, None, failure)
    answer = read_completion(text, shape="vanilla").answer or ""
    kind = row["problem_type"]
    if kind == "multiple choice":
        return Verdict(breakdown.task, read_choice(answer, row["options"]))
    if kind in ("numerical", "regression"):
        value = read_number(answer, unit_of(row["question"]))[0]
        return Verdict(breakdown.task, f"{value:.12g}")
    return Verdict(breakdown.task, answer)


_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def first_number(text: str, row: Question) -> Verdict:
    """The first number anywhere, or the first capital letter that is an option.

    Many scripts read like this: "Based on the map" is B, and "2 or 3" is 2.
    """
    if row["problem_type"] == "multiple choice":
        found = re.search(_letters(row), text)
        return _judged_choice(found and found[0], row)
    found = _NUMBER.search(text)
    return _judged_number(found and found[0], row)


def last_letter(text: str, row: Question) -> Verdict:
    """The last number anywhere, or the last capital letter that is an option."""
    choice = row["problem_type"] == "multiple choice"
    found = re.findall(_letters(row) if choice else _NUMBER, text)
    last = found[-1] if found else None
    return _judged_choice(last, row) if choice else _judged_number(last, row)


def _letters(row: Question) -> str:
    options = row["options"]
    return f"[{''.join(labelled_options(options))}]" if options else "[A-Z]"


def _judged_choice(letter: str | None, row: Question) -> Verdict:
    if letter is None:
        return Verdict(0.0, None, "no_letter")
    return Verdict(float(letter == row["ground_truth"].strip().upper()), letter)


def _judged_number(digits: str | None, row: Question) -> Verdict:
    if row["problem_type"] not in ("numerical", "regression"):
        return Verdict(0.0, None, "not_a_number_question")
    if digits is None:
        return Verdict(0.0, None, "no_number")
    truth = float(row["ground_truth"])
    return Verdict(mean_relative_accuracy(float(digits), truth), digits)
