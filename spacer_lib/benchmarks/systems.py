"""How published systems read answers, where they do not use a benchmark's own rule.

``spacer``      SpaceR's released evaluation: another reader for each benchmark
``video_r1``    Video-R1's ``eval_bench.py``: one reader for all
``lmms_eval``   the benchmark's own rule without thoughts; numbers of VSI-Bench anywhere
``vlmevalkit``  VLMEvalKit's VSI-Bench
``easi``        EASI's spatial benchmarks, which look for an answer almost anywhere

Each equals the released code, its faults included; tests hold recorded outputs.

Source: https://github.com/OuyangKun10/SpaceR (``SpaceR-Eval``),
https://github.com/tulerfeng/Video-R1 (``src/eval_bench.py``),
https://github.com/EvolvingLMMs-Lab/lmms-eval (0.7.3, ``tasks/vsibench/utils.py``),
https://github.com/open-compass/VLMEvalKit (``vlmeval/dataset/vsibench.py``) and
https://github.com/EvolvingLMMs-Lab/VLMEvalKit (``utils/spatial_bench``).
"""

import ast
import re
from collections.abc import Callable

import numpy as np

from spacer_lib.benchmarks import vsi
from spacer_lib.benchmarks.rules import spacer_released
from spacer_lib.benchmarks.schema import Rule, Verdict
from spacer_lib.rewards.metrics import float_accuracy
from spacer_lib.rows import Question

_NUMBERS = ("numerical", "regression")
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen twenty"
).split()


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _choice(answer: str | None, row: Question, failure: str = "no_letter") -> Verdict:
    if not answer:
        return Verdict(0.0, None, failure)
    return Verdict(float(answer == row["ground_truth"]), answer)


# ---------------------------------------------------------------- SpaceR

_SPACER_TAG = re.compile("<answer>(.*?)</answer>", re.DOTALL)
_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
    "Answer:",
    "Option:",
)


def spacer(name: str, official: Rule, stated: Callable[[str], str | None]) -> Rule:
    """SpaceR's released reader of a benchmark.

    The first answer block is read, "None" if the tag is opened and not closed, and the
    whole text if it is not opened. Then it depends on the benchmark.

    Parameters
    ----------
    name : str
        Of the benchmark. One that SpaceR does not evaluate is read as VSI-Bench.
    official : callable
        The benchmark's own rule.
    stated : callable
        STI-Bench's patterns: the letter that a text states, or ``None``.
    """

    def sti(text: str, row: Question) -> Verdict:
        answer = stated(text) or text.strip()
        return _choice(answer, row, "empty_output")

    def spar(text: str, row: Question) -> Verdict:
        if not text:  # the empty text is part of every truth, as released
            right = row["problem_type"] == "multiple choice"
            return Verdict(float(right), None, "empty_output")
        return official(text, row)

    def first_letter(letters: str, prefixes: tuple[str, ...]) -> Rule:
        def rule(text: str, row: Question) -> Verdict:
            text = text.strip()
            for prefix in prefixes:
                text = text.replace(prefix, "")
            found = re.search(f"[{letters}]", text)
            return _choice(found and found[0], row)

        return rule

    def tempcompass(text: str, row: Question) -> Verdict:
        letter = re.match(r"([ABCD])(?:[.)]|\Z)", text)
        if letter and text != row["ground_truth"]:
            right = letter[1] == row["ground_truth"][:1]
            return Verdict(float(right), letter[1])
        return _choice(text, row, "empty_output")

    more = ("The correct answer", "The correct option")
    readers: dict[str, Rule] = {
        "sti": sti,
        "spar": spar,
        "videomme": first_letter("ABCD", (*_PREFIXES, *more)),
        "longvideobench": first_letter("ABCDE", _PREFIXES),
        "tempcompass": tempcompass,
    }
    reader = readers.get(name)
    if reader is None:
        return spacer_released

    def tagged(text: str, row: Question) -> Verdict:
        if "<answer>" in text:
            block = _SPACER_TAG.search(text)
            text = block[1].strip() if block else "None"
        return reader(text, row)

    return tagged


# ---------------------------------------------------------------- Video-R1

_SPACED_TAG = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_THRESHOLDS = np.arange(0.5, 0.975, 0.05, dtype=np.float32)


def video_r1(text: str, row: Question) -> Verdict:
    """The first answer block, or the whole text if it is empty or absent.

    A letter must equal the truth. A number must equal it to two digits behind the
    point, and have a point or comma if the truth has one. Numbers of VSI-Bench's tasks
    and of type ``regression`` score their mean relative accuracy, in single precision
    and with "less than": its file gives VSI-Bench's numbers that type, since its
    script reports their accuracy apart.
    """
    block = _SPACED_TAG.search(text)
    answer = (block[1].strip() if block else "") or text
    truth = row["ground_truth"].strip()
    if row["problem_type"] == "multiple choice":
        return _choice(answer.strip(), row, "empty_output")
    if row["problem_type"] not in _NUMBERS:
        return Verdict(0.0, None, "not_a_number_question")
    said, true = (_float(part.replace(",", "")) for part in (answer, truth))
    if said is None or true is None:
        return Verdict(0.0, None, "no_number")
    shown = f"{said:.12g}"
    estimated = row["question_type"].endswith(("_estimation", "_distance", "_counting"))
    if row["problem_type"] == "regression" or estimated:
        return Verdict(_strict_accuracy(said, true), shown)
    pointed = [bool(re.search("[.,]", part)) for part in (truth, answer)]
    if pointed[0] != pointed[1] or not (np.isfinite(said) and np.isfinite(true)):
        return Verdict(0.0, shown)
    return Verdict(float(round(true, 2) == round(said, 2)), shown)


def _strict_accuracy(value: float, truth: float) -> float:
    """Mean relative accuracy in single precision; the error must be below the bound."""
    with np.errstate(all="ignore"):
        said, true = np.float32(value), np.float32(truth)
        error = np.abs(said - true) / (np.abs(true) + np.float32(1e-8))
        return float((error < 1 - _THRESHOLDS).astype(np.float32).mean())


# ---------------------------------------------------------------- lmms-eval

_REASONING = (("<think>", "</think>"), ("<analysis>", "</analysis>"))
_FIRST_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_NUMBER_WORDS = {
    **{word: value for value, word in enumerate(_WORDS)},
    **dict(
        zip(
            "thirty forty fifty sixty seventy eighty ninety".split(),
            range(30, 100, 10),
            strict=True,
        )
    ),
    "hundred": 100,
    "thousand": 1000,
}


def lmms_eval(official: Rule) -> Rule:
    """The benchmark's own rule on the text without its blocks of reasoning.

    An answer tag stays in the text. Of VSI-Bench's numbers the first one counts, in
    digits or words: "There are 3 or 4" is 3, and "one hundred five" is 105.

    Source: lmms-eval 0.7.3. Versions before took the content of the answer tag or of
    ``\\boxed{}``, and read VSI-Bench's numbers as its authors do.
    """

    def rule(text: str, row: Question) -> Verdict:
        text = _without_reasoning(text)
        if (
            row["question_type"] not in vsi.NUMBER
            or row["problem_type"] not in _NUMBERS
        ):
            return official(text, row)
        value = _first_in_digits_or_words(text.lower())
        if value is None:
            return Verdict(0.0, None, "no_number")
        score = float_accuracy(value, float(row["ground_truth"]))
        return Verdict(score, f"{value:.12g}")

    return rule


def _without_reasoning(text: str) -> str:
    """The text without its blocks; without an opening tag, what follows the last."""
    for opening, closing in _REASONING:
        while (start := text.find(opening)) >= 0:
            stop = text.find(closing, start)
            if stop < 0:
                break
            text = text[:start] + text[stop + len(closing) :]
        if opening not in text:
            text = text.rpartition(closing)[2]
    return text.strip()


def _first_in_digits_or_words(text: str) -> float | None:
    digits = _FIRST_NUMBER.search(text)
    words = list(re.finditer("[a-z]+", text))
    spoken = next((i for i, word in enumerate(words) if word[0] in _NUMBER_WORDS), None)
    if digits and (spoken is None or digits.start() < words[spoken].start()):
        return float(digits[0])
    if spoken is None:
        return None
    total = current = 0
    for word in words[spoken:]:
        if word[0] == "and":
            continue
        value = _NUMBER_WORDS.get(word[0])
        if value is None:
            break
        if value == 1000:
            total, current = total + 1000 * max(current, 1), 0
        else:
            current = max(current, 1) * 100 if value == 100 else current + value
    return float(total + current)


# ---------------------------------------------------------------- VLMEvalKit


def vlmevalkit(text: str, row: Question) -> Verdict:
    """A whole text that is the letter, or starts with it and a full stop; or a number.

    The relative error must be below, not at, each bound.
    """
    truth = row["ground_truth"]
    if row["problem_type"] == "multiple choice":
        said, letter = text.lower(), truth.lower()
        right = said == letter or said.startswith(f"{letter}.")
        form = re.match(r"([a-z])(?:\.|\Z)", said)
        if not (right or form):
            return Verdict(0.0, None, "no_letter")
        return Verdict(float(right), form[1].upper() if form else text)
    value, true = _float(text), _float(truth)
    if value is None or not true:
        return Verdict(0.0, None, "no_number")
    bounds = (1 - (0.5 + i * 0.05) for i in range(20))
    met = sum(abs(value - true) / true < bound for bound in bounds)
    return Verdict(met / 10, f"{value:.12g}")


# ---------------------------------------------------------------- EASI

_ZERO_WIDTH = re.compile("[\u200b\u200c\u200d\ufeff]")
_NUMERAL = r"[-+]?(?:\d*\.\d+|\d+)(?:[eE][-+]?\d+)?"
_OPEN, _CLOSE = r"<\s*answer\b[^>]*>\s*", r"<\s*/\s*answer\s*>"
_TAGGED_LETTER = re.compile(
    rf"{_OPEN}([A-Ja-j])(?:\s*[\.．:：\)\]】、])?.*?{_CLOSE}", re.I | re.S
)
_TAGGED_NUMBER = re.compile(
    rf"{_OPEN}({_NUMERAL})(?:[^\d<][^<]*)?{_CLOSE}", re.I | re.S
)
_BRACKETED = r"[\(\[\{（【]?\s*([A-F])\s*[\)\]\}）】]?"
_BEFORE_TAG = [
    re.compile(rf"(?<![A-Za-z]){_BRACKETED}\s*</\s*{tag}\s*>", re.I)
    for tag in ("answer", "think")
]
_THINK = [re.compile(tag, re.I) for tag in (r"</\s*think\s*>", r"<\s*think\s*>")]
_OPTION_LINE = re.compile(r"^(?:[*_>\-\s]*)(?:option|选项)\s+[A-J]\s*[:：]", re.I)
_LONE_LETTER = re.compile(
    r"^\s*[*_`>（）\[\]【】\(\)]*\s*([A-Fa-f])\s*[*_`（）\[\]【】\(\)]*\s*$"
)
_LABEL = re.compile(r"^\s*([A-F])\s*[\.．:：\)\]】、-]\s+", re.I)
_INLINE = re.compile(
    r"(?<![A-Za-z])[*_`（\[\{\(]*\s*([A-F])\s*[*_`）\]\})]*"
    r"(?=$|[\s\.,:;!?\)\]】》」』，。；、：）】》」』])"
)
_PHRASE = re.compile(
    r"(?:final\s*answer|the\s*answer\s*is|answer(?:\s*is)?|correct\s*answer|"
    r"答案|最终答案|结论|所以|因此|我选(?:择)?|选择|选)\s*[:：>＝=]?\s*"
    rf"{_BRACKETED}(?:\b|[.)、。])",
    re.I,
)
_ANYWHERE = re.compile(rf"(?<![A-Za-z]){_BRACKETED}(?![A-Za-z])")
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b", re.I)
_TAIL_CHARS, _TAIL_LINES = 800, 6


def easi(text: str, row: Question) -> Verdict:
    """A letter or number from the tag, else from the end of the text, else anywhere.

    ``how`` says where. In a tag the first letter counts: "chair" is C.
    """
    text = _ZERO_WIDTH.sub("", text.strip())
    if row["problem_type"] == "multiple choice":
        letter, how = _easi_letter(text)
        return _choice(letter, row)._replace(how=how)
    if row["problem_type"] not in _NUMBERS:
        return Verdict(0.0, None, "not_a_number_question")
    value, how = _easi_number(text)
    true = _float(row["ground_truth"])
    if value is None or true is None:
        return Verdict(0.0, None, "no_number")
    if true < 0:  # only here does that code take the truth's size
        value, true = -value, -true
    score = float_accuracy(value, true)
    if true == 0:  # the error is absolute
        score = float((abs(value) <= 1 - np.linspace(0.5, 0.95, 10)).mean())
    return Verdict(score, f"{value:.12g}", None, how)


def _easi_letter(text: str) -> tuple[str | None, str | None]:
    if found := _TAGGED_LETTER.search(text):
        return found[1].upper(), "tag"
    tail = text[-_TAIL_CHARS:]
    for pattern in _BEFORE_TAG:
        if found := pattern.search(tail):
            return found[1].upper(), "before_tag"
    for part in (_after_think(text), tail):
        if letter := _from_lines(part.splitlines()[-_TAIL_LINES:]):
            return letter, "last_lines"
    if found := _PHRASE.search(text):
        return found[1].upper(), "answer_phrase"
    lines = [line for line in text.splitlines() if not _OPTION_LINE.search(line)]
    letters = set(_ANYWHERE.findall("\n".join(lines)))
    return (letters.pop(), "only_letter") if len(letters) == 1 else (None, None)


def _after_think(text: str) -> str:
    """What stands behind the last closed think block, else behind the last opened."""
    for tag in _THINK:
        if found := list(tag.finditer(text)):
            return text[found[-1].end() :].strip()
    return text


def _from_lines(lines: list[str]) -> str | None:
    """The letter of the last line that has just one."""
    for line in reversed([line.strip() for line in lines if line.strip()]):
        if _OPTION_LINE.search(line):
            continue
        if found := _LONE_LETTER.fullmatch(line) or _LABEL.match(line):
            return found[1].upper()
        letters = set(_INLINE.findall(line))
        if len(letters) == 1:
            return letters.pop()
    return None


def _easi_number(text: str) -> tuple[float | None, str | None]:
    if text.startswith("[") and text.endswith("]"):
        try:
            values = ast.literal_eval(text)  # reads literals, runs nothing
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None, None
        text = str(values[0]).strip() if isinstance(values, list) and values else text
    text = _NUMBER_WORD.sub(lambda m: str(_WORDS.index(m[1].lower())), text)
    if found := _TAGGED_NUMBER.search(text):
        return float(found[1]), "tag"
    for how, part in (("after_think", _after_think(text)), ("last_number", text)):
        if numbers := re.findall(_NUMERAL, part):
            return float(numbers[-1]), how
    return None, None
