"""Model text → think, map and answer, or the name of what is wrong.

A well-formed completion is one think block and then one answer block::

    <think> <map>{"chair":[[2,5]]}</map> two steps east … </think><answer>B</answer>

The map stands inside the think block or between the two. vsGRPO's two other shapes
are read as well: ``observe`` names the first block so, ``vanilla`` has none and may
leave the answer bare. Text is model output: it never raises, is never evaluated, and
costs linear time. The answer is read from its tag whether or not the rest is
well-formed; the format reward judges the rest.
"""

import re
import unicodedata
from dataclasses import dataclass

from spacer_lib.errors import SpacerError
from spacer_lib.maps.grid import parse_map

MAX_ANSWER_CHARS = 2_000  # a longer one is no option and no number
MAX_NUMBER = 1e9  # no question here has a larger answer
MAX_THINK_CHARS = 2_000  # a thought that is still a template after these is one

SHAPES = ("think", "observe", "vanilla")
FAILURES = (
    "no_answer_tag",
    "unclosed_answer",
    "two_answers",
    "empty_answer",
    "no_think",
    "unclosed_think",
    "two_thinks",
    "answer_inside_think",
    "text_outside_tags",
)
FLAGS = ("empty_think", "template_think")
NUMBER_FAILURES = (
    "no_number",
    "ambiguous_number",
    "wrong_unit",
    "number_out_of_range",
    "answer_too_long",
)


@dataclass(frozen=True)
class Completion:
    """What a completion says.

    Attributes
    ----------
    think, map_text, answer : str or None
        Contents of the blocks, stripped; ``None`` where there is no such single block.
    map : dict or None
        ``{category: [(x_col, y_row), …]}``.
    failure : str or None
        The first that holds of ``FAILURES``; the observe block's go by the names of
        the think block's.
    map_failure : str or None
        ``no_map`` (only where one is expected), ``unclosed_map``, ``two_maps``, or a
        failure of ``cogmap.parse_map``.
    flags : tuple of str
        ``empty_think``: nothing in the think block but the map.
        ``template_think``: not empty, but fewer than three different words are left
        in its first 2,000 characters without map, tags and phrases that only repeat
        an instruction ("your reasoning here", "think step by step"). A flagged
        completion keeps its format: flags are for whoever watches for hacks.
    """

    think: str | None
    map_text: str | None
    map: dict | None
    answer: str | None
    failure: str | None
    map_failure: str | None
    flags: tuple = ()

    @property
    def format_ok(self):
        """One think block, then one answer block, and nothing outside but a map."""
        return self.failure is None


def read_completion(text, *, expect_map=False, grid_size=10, shape="think"):
    """Take a completion apart.

    Parameters
    ----------
    text : str
    expect_map : bool
        Whether a completion without a map has a map failure.
    grid_size : int
        M; map cells outside [0, M - 1] are a failure.
    shape : str
        ``think``: a think block, then an answer block. ``observe``: the same with
        ``<observe>`` in place of ``<think>``. ``vanilla``: an answer block alone, or
        a text without any of these tags, which is the answer as a whole.

    Returns
    -------
    Completion

    Raises
    ------
    SpacerError
        For an unknown shape.
    """
    if shape not in SHAPES:
        raise SpacerError("completion shape", got=shape, expected=", ".join(SHAPES))
    if shape == "vanilla" and not _TAG.search(text):
        text = f"<answer>{text}</answer>"
    answer, answer_failure = _single_block(text, "answer")
    think, think_failure = None, None
    if shape != "vanilla":
        think, think_failure = _single_block(text, shape)
    outside_answer = text
    if answer is not None:
        outside_answer = text[: answer.start] + text[answer.stop :]
    drawn, map_failure = _single_block(outside_answer, "map")
    if map_failure == "no_map" and not expect_map:
        map_failure = None
    cells = None
    if drawn is not None:
        reading = parse_map(drawn.content, grid_size)
        cells, map_failure = reading.map, reading.failure
    return Completion(
        think=think and think.content.strip(),
        map_text=drawn and drawn.content.strip(),
        map=cells,
        answer=answer and answer.content.strip(),
        failure=answer_failure or think_failure or _misplaced(text, think, answer),
        map_failure=map_failure,
        flags=() if think is None else _flags(_without_map(think.content)),
    )


@dataclass(frozen=True)
class _Block:
    content: str
    start: int  # of the opening tag
    stop: int  # after the closing tag


_TAG = re.compile("</?(?:think|observe|answer)>")
_MISSING = {"answer": "no_answer_tag", "think": "no_think", "map": "no_map"}


def _single_block(text, tag):
    """(block, None) if there is exactly one, else (None, failure)."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    name = "think" if tag == "observe" else tag
    start = text.find(opening)
    if start < 0:
        return None, _MISSING[name]
    stop = text.find(closing, start)
    if stop < 0:
        return None, f"unclosed_{name}"
    if text.count(opening) > 1 or text.count(closing) > 1:
        return None, f"two_{name}s"
    content = text[start + len(opening) : stop]
    block = _Block(content, start, stop + len(closing))
    if tag == "answer" and not content.strip():
        return block, "empty_answer"
    return block, None


def _without_map(text):
    start = text.find("<map>")
    stop = text.find("</map>", start)
    if 0 <= start < stop:
        return text[:start] + text[stop + len("</map>") :]
    return text


# What in a thought only repeats the instruction to think; lower case.
_INSTRUCTION = re.compile(
    r"<[^<>]{1,20}>|\b(?:(?:let'?s |let us )?(?:think(?:ing)? )?step[ -]by[ -]step"
    r"|(?:(?:write|put|insert|add) )?(?:(?:your|my|the) )?(?:detailed )?"
    r"(?:reasoning|thinking|thoughts?|analysis)(?: process)?"
    r"(?: (?:goes|go|comes))?(?: (?:here|inside))?)\b"
)
# Outside ASCII each letter counts as a word: some scripts put no spaces.
_WORD = re.compile(r"[0-9a-z]+|[^\W_]")


def _flags(thought):
    """Flags of a think block without its map."""
    if not thought.strip():
        return ("empty_think",)
    thought = " ".join(thought[:MAX_THINK_CHARS].casefold().split())
    words = set(_WORD.findall(_INSTRUCTION.sub(" ", thought)))
    return ("template_think",) if len(words) < 3 else ()


def _misplaced(text, think, answer):
    """The failure of single blocks that do not follow each other cleanly."""
    if think is None:  # a shape without one
        outside = _without_map(text[: answer.start]) + text[answer.stop :]
        return "text_outside_tags" if outside.strip() else None
    if think.start < answer.start < think.stop:
        return "answer_inside_think"
    if answer.start < think.stop:
        return "text_outside_tags"
    between = _without_map(text[think.stop : answer.start])
    outside = text[: think.start], between, text[answer.stop :]
    return "text_outside_tags" if any(part.strip() for part in outside) else None


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
# Words that change a number in a way not read here: the whole is then ambiguous.
_UNREAD_WORDS = frozenset(
    "million billion trillion dozen half quarter third point".split()
)
_NUMBER_TOKEN = re.compile(
    r"(?P<digits>[0-9.,]+)(?P<exponent>[eE][+-]?[0-9]+)?|(?P<word>[^\W\d_]+)|\S"
)
_WELL_WRITTEN = re.compile(r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.[0-9]+)?")
_CALCULATION = re.compile(
    r"[0-9]\s*[-−–+*/^×x:=_]\s*[-−+.]?[0-9]|[0-9][²³¹⁰⁴-⁹]"
    r"|[0-9]\s*(?:[cmk]?m|ft|in)\s*[-−–+*×x]\s*[0-9]"  # "5m x 5m" is no 5
)
_FRACTION = re.compile(
    r"(?<![\w.,/^])(?:(?P<whole>[0-9]{1,9}) )?(?P<top>[0-9]{1,9})/"
    r"(?P<bottom>[0-9]{1,3})(?![0-9/]|[.,][0-9]|[eE][-+]?[0-9])"
)
_FRACTION_SIGN = re.compile("[¼-¾⅐-⅞]")  # one character, such as ½

_LENGTHS_M = {  # unit: metres, spellings
    "mm": (0.001, r"mm|millimet(?:er|re)s?"),
    "cm": (0.01, r"cms?|centimet(?:er|re)s?"),
    "m": (1.0, r"m|met(?:er|re)s?"),
    "km": (1000.0, r"kms?|kilomet(?:er|re)s?"),
    # "in" before a word is a preposition: "3 in total".
    "in": (0.0254, r"inch(?:es)?|in(?!\s+\w)"),
    "ft": (0.3048, r"ft|foot|feet"),
    "yd": (0.9144, r"yds?|yards?"),
}
_UNIT = (
    r"(?:(?P<before>square|sq|cubic|cu)\.?\s?)?(?:"
    + "|".join(f"(?P<{unit}>{words})" for unit, (_, words) in _LENGTHS_M.items())
    + r")(?:\^?(?P<after>[23²³])|\s(?P<spoken>squared|cubed))?(?!\w)"
)
_UNIT_ALONE = re.compile(_UNIT, re.IGNORECASE)
_UNIT_OF_NUMBER = re.compile(r"[\s(-]{0,3}(?:in\s)?" + _UNIT, re.IGNORECASE)
_UNIT_OF_QUESTION = re.compile(r"(?:\bin\s|\()" + _UNIT, re.IGNORECASE)
_POWERS = {"s": 2, "2": 2, "²": 2, "c": 3, "3": 3, "³": 3}  # by first character


def unit_of(question):
    """The unit of length, area or volume that a question asks for.

    It stands after "in" or in brackets. Two different ones are none.

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


def _unit(match):
    """(unit of length, power) of a match of ``_UNIT``."""
    name = next(unit for unit in _LENGTHS_M if match[unit])
    mark = match["before"] or match["after"] or match["spoken"]
    return name, _POWERS[mark[0].lower()] if mark else 1


def read_number(text, unit=None):
    """The one number an answer states.

    Digits with or without thousands separators (``1,200``, ``.5``, ``-3``, ``4e2``),
    plain fractions (``3/4``, ``2 1/2``, ``2½``; denominators 2 to 100) and English
    words up to the thousands (``twenty one``). The same number twice is one number.
    Sums, ranges, dates and numbers in a larger word system ("two million", "half")
    are ambiguous rather than guessed.

    A unit may follow the number. Without ``unit`` it is not looked at: the number
    counts in the unit that the question names. With ``unit``, a known unit of the
    same dimension is converted (``250 cm`` is 2.5 in ``m``), one of another dimension
    fails, and a number with any other word or nothing after it counts in ``unit``.

    Parameters
    ----------
    text : str
    unit : str, optional
        ``mm``, ``cm``, ``m``, ``km``, ``in``, ``ft`` or ``yd``, their squares
        (``m2``) and cubes, in any spelling that an answer may use.

    Returns
    -------
    value : float or None
    failure : str or None
        One of ``NUMBER_FAILURES``: ``number_out_of_range`` is beyond 1e9 or not
        finite, ``wrong_unit`` a length given for an area and the like.

    Raises
    ------
    SpacerError
        For a ``unit`` that is none.

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
    if _CALCULATION.search(text):
        return None, "ambiguous_number"
    values = set()
    for value, stop in _stated_numbers(text):
        given = _UNIT_OF_NUMBER.match(text, stop) if asked else None
        values.add(_in_unit(value, asked, given and _unit(given)))
    if not values:
        return None, "no_number"
    if len(values) > 1:
        return None, "ambiguous_number"
    ((value, failure),) = values
    if failure is not None:
        return None, failure
    if not abs(value) <= MAX_NUMBER:
        return None, "number_out_of_range"
    return value, None


def _require_unit(unit):
    if unit is None:
        return None
    match = _UNIT_ALONE.fullmatch(unit)
    if match is None:
        raise SpacerError("unit", got=repr(unit), expected="such as m, cm or m2")
    return _unit(match)


def _in_unit(value, asked, given):
    """(value in the unit asked for, failure); units are (name, power) or ``None``."""
    if value is None:
        return None, "ambiguous_number"
    if given is None or given == asked:
        return value, None
    if given[1] != asked[1]:
        return value, "wrong_unit"
    factor = (_LENGTHS_M[given[0]][0] / _LENGTHS_M[asked[0]][0]) ** asked[1]
    return float(f"{value * factor:.12g}"), None  # 12 digits: 2.5 m is 250 cm


def _with_decimals(text):
    """Fractions as decimals: ``2 1/2`` → ``2.5``; others stay, and are calculations."""
    text = text.replace("⁄", "/")  # the fraction slash
    text = _FRACTION_SIGN.sub(_spelt_fraction, text)
    return _FRACTION.sub(_decimal, text)


def _spelt_fraction(match):
    fraction = unicodedata.normalize("NFKC", match[0]).replace("⁄", "/")
    glued = match.string[match.start() - 1 : match.start()].isdigit()
    return f" {fraction}" if glued else fraction


def _decimal(match):
    top, bottom = int(match["top"]), int(match["bottom"])
    mixed = match["whole"] is not None
    if not 2 <= bottom <= 100 or (mixed and not 0 < top < bottom):
        return match[0]
    return repr(int(match["whole"] or 0) + top / bottom)


def _stated_numbers(text):
    """Yield (value, or ``None`` if it is malformed; end) of each number in a text."""
    run, sign, stop, before = [], 1, 0, ""
    for token in _NUMBER_TOKEN.finditer(text):
        # The 2 of "m2" and "m^2" belongs to a unit, the 4 of "room4" to a name.
        glued = re.match(r"[\w^]", text[token.start() - 1 : token.start()])
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


def _sign(text, start, before):
    """-1 after a minus sign that touches the number but no word, or after "minus"."""
    touching = re.fullmatch(r"\W?[-−]", text[max(0, start - 2) : start])
    return -1 if touching or before in ("minus", "negative") else 1


def _joins(text, token, run):
    """Whether a token goes on a run of number words: "twenty-one", "hundred and"."""
    if token[0] == "-":
        around = text[token.start() - 1] + text[token.end() : token.end() + 1]
        return around.isalpha() and len(around) == 2
    return token[0].lower() == "and" and run[-1] in ("hundred", "thousand")


def _written(digits, exponent, sign):
    digits = digits.lstrip(",").rstrip(".,")
    if not _WELL_WRITTEN.fullmatch(digits):
        return None
    return sign * float(digits.replace(",", "") + exponent) + 0.0  # -0.0 is 0.0


def _spoken(words, sign):
    """Value of a run of number words, or ``None`` if they are not one number."""
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
