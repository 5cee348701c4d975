"""Numbers and units of length in answers, ground truths and questions.

Reads short texts: one number in digits or in English words, and the unit after it, in
English or Chinese.

Our own rule, as no paper compared here prints one: a text with two different numbers,
a sum, a range, a bound ("more than 4") or a negation ("not 4") states none.
"""

import re
import unicodedata
from collections.abc import Iterator

from spacer_lib.errors import SpacerError
from spacer_lib.language.choices import MAX_ANSWER_CHARS

MAX_NUMBER = 1e9  # no question here has a larger answer
NUMBER_FAILURES = (
    "no_number",
    "ambiguous_number",
    "wrong_unit",
    "number_out_of_range",
    "answer_too_long",
)

_Unit = tuple[str, int]  # unit of length, and its power: 1, 2 or 3
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORD_VALUES = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
    "hundred": 100,
    "thousand": 1000,
}
# Words that change a number in a way that is not read: the text is ambiguous.
_UNREAD_WORDS = frozenset(
    "million billion trillion dozen half quarter third point".split()
)
_NUMBER_TOKEN = re.compile(
    r"(?P<digits>[0-9.,]+)(?P<exponent>[eE][+-]?[0-9]+)?|(?P<word>[^\W\d_]+)|\S"
)
_WELL_WRITTEN = re.compile(r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.[0-9]+)?")
_CALCULATION = re.compile(
    r"[0-9]\s*[-−–+*/^×x:=_]\s*[-−+.]?[0-9]|[0-9][²³¹⁰⁴-⁹]"
    r"|[0-9]\s*(?:[cmk]?m|ft|in)\s*[-−–+*×x]\s*[0-9]"  # "5m x 5m" is not 5
)
_BOUNDED = re.compile(
    r"(?:\b(?:not|than)\s+|n['’]t\s+|不[是到]\s*|[超大小少多]于\s*|超过\s*|不足\s*)"
    r"(?:(?:exactly|about|just)\s+)?"
    rf"(?:-?\.?[0-9]|(?:{'|'.join(_WORD_VALUES)})\b)",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    r"(?<![\w.,/^])(?:(?P<whole>[0-9]{1,9}) )?(?P<top>[0-9]{1,9})/"
    r"(?P<bottom>[0-9]{1,3})(?![0-9/]|[.,][0-9]|[eE][-+]?[0-9])"
)
_FRACTION_SIGN = re.compile("[¼-¾⅐-⅞]")  # one character, such as ½

_LENGTHS_M = {  # unit: metres, spellings
    "mm": (0.001, r"mm|millimet(?:er|re)s?|毫米"),
    "cm": (0.01, r"cms?|centimet(?:er|re)s?|厘米|公分"),
    "m": (1.0, r"m|met(?:er|re)s?|米"),
    "km": (1000.0, r"kms?|kilomet(?:er|re)s?|公里|千米"),
    # "in" before a word is a preposition: "3 in total".
    "in": (0.0254, r"inch(?:es)?|in(?!\s+\w)"),
    "ft": (0.3048, r"ft|foot|feet"),
    "yd": (0.9144, r"yds?|yards?"),
}
_UNIT = (
    r"(?:(?P<before>square|sq|cubic|cu|平方|立方)\.?\s?)?(?:"
    + "|".join(f"(?P<{unit}>{words})" for unit, (_, words) in _LENGTHS_M.items())
    + r")(?:\^?(?P<after>[23²³])|\s(?P<spoken>squared|cubed))?(?![^\W㐀-鿿])"
)
_UNIT_ALONE = re.compile(_UNIT, re.IGNORECASE)
_UNIT_OF_NUMBER = re.compile(r"[\s(-]{0,3}(?:in\s)?" + _UNIT, re.IGNORECASE)
_UNIT_OF_QUESTION = re.compile(r"(?:\bin\s|\()" + _UNIT, re.IGNORECASE)
# By first character.
_POWERS = {"s": 2, "2": 2, "²": 2, "平": 2, "c": 3, "3": 3, "³": 3, "立": 3}


def unit_of(question: str) -> str | None:
    """The unit of length, area or volume that a question asks for.

    The unit stands after "in" or in brackets. A question with two different units
    asks for none.

    Returns
    -------
    str or None
        Such as ``m``, ``cm`` or ``m2``.

    Examples
    --------
    >>> unit_of("What is the size of this room (in square meters)?")
    'm2'
    >>> unit_of("How many chairs are in this room?") is None
    True
    """
    units = {_unit(found) for found in _UNIT_OF_QUESTION.finditer(question)}
    if len(units) != 1:
        return None
    ((unit, power),) = units
    return unit if power == 1 else f"{unit}{power}"


def _unit(match: re.Match[str]) -> _Unit:
    """The unit of a match of ``_UNIT``."""
    name = next(unit for unit in _LENGTHS_M if match[unit])
    mark = match["before"] or match["after"] or match["spoken"]
    return name, _POWERS[mark[0].lower()] if mark else 1


def read_number(text: str, unit: str | None = None) -> tuple[float | None, str | None]:
    """The one number that an answer states, or the name of why there is none.

    Read are digits with or without thousands separators (``1,200``, ``.5``, ``-3``,
    ``4e2``), fractions (``3/4``, ``2 1/2``, ``2½``; denominators 2 to 100) and English
    words up to the thousands (``twenty one``). The same number twice is one number.
    Sums, ranges, bounds, dates and other number words ("two million", "half") are
    ambiguous, and so is a number after "not".

    A unit may follow the number. Without ``unit`` it is ignored. With ``unit``, a
    known unit of the same dimension is converted (``250 cm`` is 2.5 in ``m``), one of
    another dimension is a failure, and a number without a known unit counts in
    ``unit``.

    Parameters
    ----------
    text : str
        A longer text than ``MAX_ANSWER_CHARS`` is a failure.
    unit : str, optional
        ``mm``, ``cm``, ``m``, ``km``, ``in``, ``ft`` or ``yd``, their squares
        (``m2``) and cubes, in any spelling that an answer may use.

    Returns
    -------
    value : float or None
    failure : str or None
        One of ``NUMBER_FAILURES``. ``number_out_of_range``: beyond 1e9 or not finite.
        ``wrong_unit``: such as a length where an area is asked for.

    Raises
    ------
    SpacerError
        For an unknown ``unit``.

    Examples
    --------
    >>> read_number("about 250 cm", "m")
    (2.5, None)
    >>> read_number("4 or 5")
    (None, 'ambiguous_number')
    """
    asked = _require_unit(unit)
    if len(text) > MAX_ANSWER_CHARS:
        return None, "answer_too_long"
    text = _with_decimals(text)
    if _CALCULATION.search(text) or _BOUNDED.search(text):
        return None, "ambiguous_number"
    found = set()
    for stated, stop in _stated_numbers(text):
        if stated is None:
            found.add((0.0, "ambiguous_number"))
        elif asked is None:
            found.add((stated, ""))
        else:
            given = _UNIT_OF_NUMBER.match(text, stop)
            found.add(_in_unit(stated, _unit(given) if given else asked, asked))
    if not found:
        return None, "no_number"
    if len(found) > 1:
        return None, "ambiguous_number"
    ((value, failure),) = found
    if failure:
        return None, failure
    if not abs(value) <= MAX_NUMBER:
        return None, "number_out_of_range"
    return value, None


def _require_unit(unit: str | None) -> _Unit | None:
    if unit is None:
        return None
    match = _UNIT_ALONE.fullmatch(unit)
    if match is None:
        raise SpacerError(
            "unit",
            kind="language.unknown-unit",
            got=repr(unit),
            expected="such as m, cm or m2",
        )
    return _unit(match)


def _in_unit(value: float, given: _Unit, asked: _Unit) -> tuple[float, str]:
    """The value in the unit asked for, and a failure or an empty text."""
    if given == asked:
        return value, ""
    if given[1] != asked[1]:
        return value, "wrong_unit"
    factor = (_LENGTHS_M[given[0]][0] / _LENGTHS_M[asked[0]][0]) ** asked[1]
    return float(f"{value * factor:.12g}"), ""  # 12 digits: 2.5 m is 250 cm


def _with_decimals(text: str) -> str:
    """Fractions as decimals: ``2 1/2`` → ``2.5``. Other divisions stay as they are."""
    text = text.replace("⁄", "/")  # the fraction slash
    text = _FRACTION_SIGN.sub(_spelt_fraction, text)
    return _FRACTION.sub(_decimal, text)


def _spelt_fraction(match: re.Match[str]) -> str:
    fraction = unicodedata.normalize("NFKC", match[0]).replace("⁄", "/")
    glued = match.string[match.start() - 1 : match.start()].isdigit()
    return f" {fraction}" if glued else fraction


def _decimal(match: re.Match[str]) -> str:
    top, bottom = int(match["top"]), int(match["bottom"])
    mixed = match["whole"] is not None
    if not 2 <= bottom <= 100 or (mixed and not 0 < top < bottom):
        return match[0]
    return repr(int(match["whole"] or 0) + top / bottom)


def _stated_numbers(text: str) -> Iterator[tuple[float | None, int]]:
    """Yield value (``None`` if malformed) and end of each number in a text."""
    run: list[str] = []  # number words so far
    sign, stop, before = 1, 0, ""
    for token in _NUMBER_TOKEN.finditer(text):
        # The 2 of "m2" and "m^2" belongs to a unit, the 4 of "room4" to a name.
        # Chinese has no spaces: "有4把".
        glued = re.match(r"[^\W㐀-鿿]|\^", text[token.start() - 1 : token.start()])
        word = (token["word"] or "").lower()
        if word in _UNREAD_WORDS:
            yield None, token.end()
        if word in _WORD_VALUES and not glued:
            sign = sign if run else _sign(text, token.start(), before)
            run.append(word)
            stop = token.end()
        elif run and not _joins(text, token, run):
            yield _spoken(run, sign), stop
            run = []
        if re.search("[0-9]", token["digits"] or "") and not glued:
            sign = _sign(text, token.start(), before)
            yield _written(token["digits"], token["exponent"] or "", sign), token.end()
        before = word
    if run:
        yield _spoken(run, sign), stop


def _sign(text: str, start: int, before: str) -> int:
    """-1 after a minus sign that touches the number but no word, or after "minus"."""
    touching = re.fullmatch(r"\W?[-−]", text[max(0, start - 2) : start])
    return -1 if touching or before in ("minus", "negative") else 1


def _joins(text: str, token: re.Match[str], run: list[str]) -> bool:
    """Whether a token continues number words: "twenty-one", "hundred and"."""
    if token[0] == "-":
        around = text[token.start() - 1] + text[token.end() : token.end() + 1]
        return around.isalpha() and len(around) == 2
    return token[0].lower() == "and" and run[-1] in ("hundred", "thousand")


def _written(digits: str, exponent: str, sign: int) -> float | None:
    digits = digits.lstrip(",").rstrip(".,")
    if not _WELL_WRITTEN.fullmatch(digits):
        return None
    return sign * float(digits.replace(",", "") + exponent) + 0.0  # -0.0 is 0.0


def _spoken(words: list[str], sign: int) -> float | None:
    """Value of number words, or ``None`` if they are not one number."""
    if words == ["zero"]:
        return 0.0
    thousands, group, limit, scaled = 0, 0, 100, False
    for word in words:
        value = _WORD_VALUES[word]
        if word == "thousand":
            if thousands:
                return None
            thousands, group, limit, scaled = 1000 * (group or 1), 0, 100, False
        elif word == "hundred":
            if scaled or group >= 100:
                return None
            group, limit, scaled = 100 * (group or 1), 100, True
        else:
            if not 0 < value < limit:
                return None
            group += value
            limit = 10 if word in _TENS else 0
    return float(sign * (thousands + group))
