"""Options and letters: which option a multiple-choice answer or a truth names.

Reads option lists as rows have them (``A. table``, ``(A) table``, ``A: table``,
``A) table`` or bare texts) and short answers. The only reader of letters in this
repository.

Departure from SpaceR Eq. 2 (https://arxiv.org/abs/2504.01805), an exact match: a
letter, an option in full and an option's text are one answer here. The first letter of
a sentence is none: "Actually" is not A.
"""

import re
from collections.abc import Sequence

MAX_ANSWER_CHARS = 2_000  # a longer text is neither an option nor a number

_LABELLED = re.compile(r"\(?([A-Z])[.):]\s*(.*)", re.DOTALL)
_LETTER = re.compile(r"\(([A-Za-z])\)\.?|([A-Za-z])[.):]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Z])\)|([A-Z])[.):])\s*(.+)", re.DOTALL)


def labelled_options(options: Sequence[str]) -> dict[str, str]:
    """Letter → text of each option, in their order.

    The letters are the printed ones if every option has its own, else A, B, C … by
    place.

    Examples
    --------
    >>> labelled_options(["(A) cat", "(B) dog"])
    {'A': 'cat', 'B': 'dog'}
    >>> labelled_options(["cat", "B. dog"])
    {'A': 'cat', 'B': 'B. dog'}
    """
    found = [_LABELLED.fullmatch(option.strip()) for option in options]
    labels = [label for label in found if label is not None]
    if len({label[1] for label in labels}) == len(options):
        return {label[1]: label[2].strip() for label in labels}
    return {chr(65 + i): option.strip() for i, option in enumerate(options)}


def read_choice(answer: str, options: Sequence[str] | None) -> str | None:
    """The letter that a model's answer chooses, or ``None``.

    Read as a choice: ``A``, ``a``, ``A.``, ``A)``, ``(A)``, an option in full
    (``A. table``, ``(A) table``) and the text of one option, all up to case, spaces
    and a final full stop. A letter beside another option's text chooses nothing.

    Parameters
    ----------
    answer : str
    options : sequence of str or None
        ``None``: any single letter is a choice.

    Examples
    --------
    >>> read_choice("(b)", ["A. table", "B. sofa"])
    'B'
    >>> read_choice("B. table", ["A. table", "B. sofa"]) is None
    True
    """
    if len(answer) > MAX_ANSWER_CHARS:
        return None
    letter = _letter_alone(answer)
    if options is None:
        return letter
    texts = labelled_options(options)
    if letter in texts:
        return letter
    letter, text = _letter_and_text(answer)
    if letter in texts and plain_text(text) == plain_text(texts[letter]):
        return letter
    same = [k for k, text in texts.items() if plain_text(text) == plain_text(answer)]
    return same[0] if len(same) == 1 else None


def true_letter(truth: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a ground truth names, or ``None``.

    Stricter than ``read_choice``: a truth that fits two options names none, since a
    reward would otherwise pay a wrong answer. Two fit where printed letters repeat,
    or where one option's text looks like another option in full.

    Parameters
    ----------
    truth : str
        A letter, an option in full, or the text of one option alone.
    options : sequence of str

    Returns
    -------
    str or None
        A key of ``labelled_options(options)``.

    Examples
    --------
    >>> true_letter("(B) dog", ["(A) cat", "(B) dog"])
    'B'
    >>> true_letter("B", ["A. x", "A. y", "B. z"]) is None  # the second, or B. z
    True
    """
    if len(truth) > MAX_ANSWER_CHARS:
        return None
    texts = labelled_options(options)
    letter, (full_letter, full_text) = _letter_alone(truth), _letter_and_text(truth)
    fits = []
    for (label, text), option in zip(texts.items(), options, strict=True):
        if letter in texts:
            printed = _LABELLED.fullmatch(option.strip())
            fit = letter == label or (printed is not None and letter == printed[1])
        else:
            whole = full_letter == label and plain_text(full_text) == plain_text(text)
            fit = whole or plain_text(truth) == plain_text(text)
        if fit:
            fits.append(label)
    return fits[0] if len(fits) == 1 else None


def _letter_alone(answer: str) -> str | None:
    """``A`` of ``A``, ``a``, ``A.`` or ``(A)``."""
    match = _LETTER.fullmatch(answer.strip())
    return (match[1] or match[2]).upper() if match else None


def _letter_and_text(answer: str) -> tuple[str, str]:
    """``A`` and ``table`` of ``A. table`` or ``(A) table``; two empty texts if none."""
    match = _LETTER_AND_TEXT.fullmatch(answer.strip())
    return (match[1] or match[2], match[3]) if match else ("", "")


def plain_text(text: str) -> str:
    """A text without case, extra spaces and a final full stop, for comparison.

    Examples
    --------
    >>> plain_text(" Sofa  Bed. ")
    'sofa bed'
    """
    return " ".join(text.casefold().split()).removesuffix(".").strip()
