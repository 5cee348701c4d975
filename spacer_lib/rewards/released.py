"""The rewards of SpaceR's and Spatial-R1's released code, completion by completion.

It differs from the paper and from our rules. Outer white space loses the format reward.
The first answer tag counts, and "A." is not A. A number is the first number word or the
first digits in the tag. There are ten thresholds without a tolerance. A right answer
whose map is worth 0 earns nothing, and so does one that draws a map where the question
has none.

One departure: each completion is judged by the problem type of its own question, not by
that of the batch's first.

Source: https://github.com/OuyangKun10/SpaceR, the rewards of the training scripts.
"""

import re
from dataclasses import dataclass

from spacer_lib.language.released import first_number, read_map
from spacer_lib.maps.scores import score as map_score
from spacer_lib.rewards.metrics import float_accuracy, rouge_f1, word_error_rate
from spacer_lib.rows import CognitiveMap

_FORMAT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_MAP = re.compile(r"<map>\s*(.*?)\s*</map>", re.DOTALL)


@dataclass(frozen=True)
class Released:
    """What the released code makes of one completion.

    Attributes
    ----------
    format : bool
        Whether it has the form.
    task : float
        Reward of the answer; 0 if the map takes it back.
    map_score : float or None
        Of the first map block; ``None`` without both map tags or without a true map.
    gate_open : bool
        Whether the answer is good enough for a map to count.
    taken_back : bool
        Whether a map that is worth 0 took the reward of the answer back.
    answer : str or None
        What was read: the tag's text, or a number in digits.
    failure : str or None
        ``no_answer_tag``, ``no_number``, or ``None``.
    drawn : dict
        The cells read from the map.
    """

    format: bool
    task: float
    map_score: float | None
    gate_open: bool
    taken_back: bool
    answer: str | None
    failure: str | None
    drawn: CognitiveMap


def judge(
    text: str,
    kind: str,
    truth: str,
    true_map: CognitiveMap | None,
    grid_size: int,
    maps: bool = True,
) -> Released:
    """Judge a completion.

    Parameters
    ----------
    text : str
    kind : str
        The question's problem type. ``option-free``, which the code does not know,
        earns 0.
    truth : str
        The answer as the code has it: a letter, a number in digits, or a text.
    true_map : dict or None
    grid_size : int
    maps : bool
        False: no map is looked at, as in Spatial-R1's code, from which this one comes.
    """
    block = _ANSWER.search(text)
    answer = block[1].strip() if block else ""
    task, said = _task(answer, kind, truth.strip())
    failure = None if block else "no_answer_tag"
    if said is None and block:
        failure = "no_number"
    gate_open = (kind == "multiple choice" and task == 1) or (
        kind == "numerical" and task > 0.5
    )
    drawn: CognitiveMap = {}
    agreement, tagged = None, maps and "<map>" in text and "</map>" in text
    if tagged and true_map is not None:
        content = _MAP.search(text)
        drawn = read_map(content[1] if content else "", true_map)
        agreement = map_score(drawn, true_map, grid_size, scorer="released")
    taken_back = gate_open and tagged and not agreement
    return Released(
        format=_FORMAT.fullmatch(text) is not None,
        task=0.0 if taken_back else task,
        map_score=agreement,
        gate_open=gate_open,
        taken_back=taken_back,
        answer=said,
        failure=failure,
        drawn=drawn,
    )


def _task(answer: str, kind: str, truth: str) -> tuple[float, str | None]:
    """Reward of an answer, and what was read."""
    if kind == "multiple choice":
        return float(answer == truth), answer or None
    if kind == "numerical":
        read = first_number(answer)
        if read is None:
            return 0.0, None
        true_number = float(truth)
        # The code divides by the truth: an error for 0, which earns nothing.
        right = float_accuracy(read[0], true_number) if true_number else 0.0
        return right, f"{read[0]:.12g}"
    if kind == "regression":
        try:
            number, true_number = (float(t.replace(",", "")) for t in (answer, truth))
        except ValueError:
            return 0.0, None
        error = (abs(number - true_number) + 1e-9) / (abs(true_number) + 1e-9)
        # As there, "nan" has no error.
        return 1 - min(1.0, max(0.0, error)), f"{number:.12g}"
    if kind == "ocr":
        return max(0.0, 1 - word_error_rate(answer, truth)), answer or None
    if kind == "free-form":
        return rouge_f1(answer, truth), answer or None
    return 0.0, answer or None
