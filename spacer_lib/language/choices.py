"""Options and letters: what a multiple-choice answer chooses."""

import re

MAX_ANSWER_CHARS = 2_000  # a longer one is no option and no number


_LABELLED = re.compile(r"\(?([A-Z])[.):]\s*(.*)", re.DOTALL)
_LETTER = re.compile(r"\(([A-Za-z])\)\.?|([A-Za-z])[.):]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Z])\)|([A-Z])[.):])\s*(.+)", re.DOTALL)


def option_texts(options):
    """``["A. table", …]`` or ``["table", …]`` → ``{letter: text}``.

    Letters are the printed ones if every option has its own, else A, B, C … by place.
    """
    found = [_LABELLED.fullmatch(option.strip()) for option in options]
    if all(found) and len({label[1] for label in found}) == len(options):
        return {label[1]: label[2].strip() for label in found}
    return {chr(65 + i): option.strip() for i, option in enumerate(options)}


def read_choice(answer, options):
    """The letter an answer chooses, or ``None``.

    Read as a letter: ``A``, ``a``, ``A.``, ``A)``, ``(A)``, an option in full
    (``A. table``, ``(A) table``) and an option's text, all up to case, spaces and a
    final full stop. "Actually" is not A; a letter beside another option's text is
    nothing.

    Parameters
    ----------
    answer : str
    options : list of str or None
        ``None``: any single letter will do.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        return None
    answer = answer.strip()
    texts = option_texts(options) if options is not None else None
    alone = _LETTER.fullmatch(answer)
    if alone:
        letter = (alone[1] or alone[2]).upper()
        if texts is None or letter in texts:
            return letter
    if texts is None:
        return None
    full = _LETTER_AND_TEXT.fullmatch(answer)
    if full:
        letter = full[1] or full[2]
        if letter in texts and plain_text(full[3]) == plain_text(texts[letter]):
            return letter
    same = [k for k, text in texts.items() if plain_text(text) == plain_text(answer)]
    return same[0] if len(same) == 1 else None


def plain_text(text):
    """A text without what two equal answers may differ in: case, spaces, full stop.

    Examples
    --------
    >>> plain_text(" Sofa  Bed. ")
    'sofa bed'
    """
    return " ".join(text.casefold().split()).removesuffix(".").strip()
