"""Reading rules: how a completion becomes an answer. Ours, and others to compare with.

``strict``           the answer tag; without tags the text after the thinking, or the
                     whole text; one letter, one number or nothing
``after_tag``        a benchmark's own rule on the content of the answer tag
``spacer_released``  as SpaceR's released evaluation reads VSI-Bench
``final_answer``     ``strict``; if it reads nothing, what the text ends on
``first_number``     the first number, or the first capital letter that is an option
``last_letter``      the last of them

The other rules show what they would have scored on the same completions. Each
benchmark's own rule is in its module.
"""

import re
from collections.abc import Iterator

from spacer_lib.benchmarks.schema import Rule, Verdict
from spacer_lib.language.choices import labelled_options
from spacer_lib.language.released import first_number as read_as_spacer
from spacer_lib.language.tags import answer_part, tagged_answer
from spacer_lib.rewards.config import RewardConfig
from spacer_lib.rewards.metrics import float_accuracy, mean_relative_accuracy
from spacer_lib.rewards.score import score
from spacer_lib.rows import Question

# Only the answer counts; format and map are scored apart.
_ANSWER_ALONE = RewardConfig(
    format_weight=0.0,
    map_gate="off",
    length_window=None,
    shape="vanilla",
    read_units=True,
    answer_grammar="wide",
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
        ``failure`` as ``rewards.score`` names it, ``how`` as ``language.answers`` does.
    """
    mapless: Question = {**row, "map": None}
    breakdown = score(answer_part(text), mapless, _ANSWER_ALONE)
    failure = breakdown.answer_failure
    if failure:
        return Verdict(0.0, None, failure)
    return Verdict(breakdown.task, breakdown.answer, None, breakdown.how)


def after_tag(rule: Rule) -> Rule:
    """A rule on the content of the answer tag.

    Without one, the rule reads what ``language.tags.tagged_answer`` gives.
    """

    def tagged(text: str, row: Question) -> Verdict:
        return rule(tagged_answer(text), row)

    return tagged


# ---------------------------------------------------------------- chains of thought

_CUE = re.compile(
    r"\b(?:answer|conclusion|result)\b[^.:=\n]{0,60}?(?:\b(?:is|are|be)\b|[:=])+[ \t]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_OFFERED = re.compile(r"(?:\b(?:or|and|to|nor|not|than)|[-–/])\s*$", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?!\d)[^\d]*$")


def final_answer(text: str, row: Question) -> Verdict:
    """``strict``; where it reads nothing, what a chain of thought ends on.

    The text is that of ``tagged_answer``. The first of these that ``strict`` can read
    counts, and ``how`` names it:

    answer_phrase  what follows the last "answer is", "Answer:", "result =" …
    last_line
    last_sentence
    last_number    of a number question: the last number of the last sentence that has
                   one, with the words after it, such as its unit

    If a multiple-choice text has such a phrase and nothing can be read behind it,
    nothing is read.
    """
    verdict = strict(text, row)
    if verdict.failure is None:
        return verdict
    for how, said in _endings(tagged_answer(text), row["problem_type"]):
        found = strict(said, row)
        if found.failure is None:
            return found._replace(how=how)
    return verdict


def _endings(text: str, problem_type: str) -> Iterator[tuple[str, str]]:
    """The places where a chain of thought may state its answer, best first."""
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
    if not sentences:
        return
    cues = list(_CUE.finditer(text))
    if cues:
        said = text[cues[-1].end() :].lstrip()
        yield "answer_phrase", _SENTENCE_END.split(said, maxsplit=1)[0]
        if problem_type == "multiple choice":
            return
    yield "last_line", text.strip().rpartition("\n")[2]
    yield "last_sentence", sentences[-1]
    if problem_type in ("numerical", "regression"):
        counted = [part for part in sentences if re.search(r"\d", part)]
        number = _LAST_NUMBER.search(counted[-1]) if counted else None
        # "8 or 10", "between 3 and 4" and "not 5" settle on no number.
        if number and not _OFFERED.search(counted[-1], 0, number.start()):
            yield "last_number", number[0]


# ---------------------------------------------------------------- SpaceR's evaluation

_SPACER_TAG = re.compile("<answer>(.*?)</answer>", re.DOTALL)


def spacer_released(text: str, row: Question) -> Verdict:
    """As SpaceR's released evaluation reads and scores VSI-Bench.

    The first answer block is read, or the whole text if no such tag is opened. A number
    is the first entry of its list of number words that occurs, else the first digits:
    "12 chairs and a lamp" is 1. A choice is a capital letter A to D before the first
    space, else the whole text, compared with the truth up to case.

    Source: SpaceR-Eval, ``vsi_util.py``, https://github.com/OuyangKun10/SpaceR. Other
    benchmarks have other readers there; this rule is VSI-Bench's on all of them.
    """
    if "<answer>" in text:
        block = _SPACER_TAG.search(text)
        text = block[1].strip() if block else "None"
    truth = row["ground_truth"]
    if row["problem_type"] == "multiple choice":
        text = text.replace("Answer:", "")
        word = text.split(" ")[0].strip()
        letter = re.fullmatch("([A-D])[.]?", word)
        answer = letter[1] if letter else text.strip()
        named = answer.upper() in labelled_options(row.get("options") or [])
        right = float(answer.lower() == truth.lower())
        if not (named or right):
            return Verdict(0.0, None, "not_an_option")
        return Verdict(right, answer, None, "letter" if letter else "text")
    if row["problem_type"] not in ("numerical", "regression"):
        return Verdict(0.0, None, "not_a_number_question")
    read = read_as_spacer(text)
    if read is None:
        return Verdict(0.0, None, "no_number")
    value, how = read
    return Verdict(float_accuracy(value, float(truth)), f"{value:.12g}", None, how)


# ---------------------------------------------------------------- two common rules

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
