"""Model text → think, map and answer, or the name of what is wrong.

A well-formed completion is one think block and then one answer block::

    <think> <map>{"chair":[[2,5]]}</map> two steps east … </think><answer>B</answer>

The map stands inside the think block or between the two. Text is model output: it
never raises, is never evaluated, and costs linear time. The answer is read from its
tag whether or not the rest is well-formed; the format reward judges the rest.
"""

import re
from dataclasses import dataclass

from spacer_lib.cogmap import parse_map

MAX_ANSWER_CHARS = 2_000  # a longer one is no option and no number
MAX_NUMBER = 1e9  # no question here has a larger answer


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
        First of ``no_answer_tag``, ``unclosed_answer``, ``two_answers``,
        ``empty_answer``, ``no_think``, ``unclosed_think``, ``two_thinks``,
        ``answer_inside_think``, ``text_outside_tags``.
    map_failure : str or None
        ``no_map`` (only where one is expected), ``unclosed_map``, ``two_maps``, or a
        failure of ``cogmap.parse_map``.
    flags : tuple of str
        ``empty_think``: nothing in the think block but the map.
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


def read_completion(text, *, expect_map=False, grid_size=10):
    """Take a completion apart.

    Parameters
    ----------
    text : str
    expect_map : bool
        Whether a completion without a map has a map failure.
    grid_size : int
        M; map cells outside [0, M - 1] are a failure.

    Returns
    -------
    Completion
    """
    answer, answer_failure = _single_block(text, "answer")
    think, think_failure = _single_block(text, "think")
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
    flags = ()
    if think is not None and not _without_map(think.content).strip():
        flags = ("empty_think",)
    return Completion(
        think=think and think.content.strip(),
        map_text=drawn and drawn.content.strip(),
        map=cells,
        answer=answer and answer.content.strip(),
        failure=answer_failure or think_failure or _misplaced(text, think, answer),
        map_failure=map_failure,
        flags=flags,
    )


@dataclass(frozen=True)
class _Block:
    content: str
    start: int  # of the opening tag
    stop: int  # after the closing tag


_MISSING = {"answer": "no_answer_tag", "think": "no_think", "map": "no_map"}


def _single_block(text, tag):
    """(block, None) if there is exactly one, else (None, failure)."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = text.find(opening)
    if start < 0:
        return None, _MISSING[tag]
    stop = text.find(closing, start)
    if stop < 0:
        return None, f"unclosed_{tag}"
    if text.count(opening) > 1 or text.count(closing) > 1:
        return None, f"two_{tag}s"
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


def _misplaced(text, think, answer):
    """The failure of two single blocks that do not follow each other cleanly."""
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
        if letter in texts and _plain(full[3]) == _plain(texts[letter]):
            return letter
    same = [k for k, text in texts.items() if _plain(text) == _plain(answer)]
    return same[0] if len(same) == 1 else None


def _plain(text):
    return " ".join(text.casefold().split()).removesuffix(".").strip()


_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORD_VALUES = {
    **{word: value for value, word in enumerate(_UNITS)},
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
_CALCULATION = re.compile(r"[0-9]\s*[-−–+*/^×x:=_]\s*[-−+.]?[0-9]")


def read_number(text):
    """The one number an answer states.

    Digits with or without thousands separators (``1,200``, ``.5``, ``-3``, ``4e2``)
    and English words up to the thousands (``twenty one``). A unit may follow and is
    not looked at: the number counts in the unit that the question names. The same
    number twice is one number. Sums, ranges, fractions and numbers in a larger word
    system ("two million", "half") are ambiguous rather than guessed.

    Returns
    -------
    value : float or None
    failure : str or None
        ``no_number``, ``ambiguous_number``, ``number_out_of_range`` (beyond 1e9 or
        not finite) or ``answer_too_long``.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return None, "answer_too_long"
    if _CALCULATION.search(text):
        return None, "ambiguous_number"
    values, run, sign, before = set(), [], 1, ""
    for token in _NUMBER_TOKEN.finditer(text):
        # The 2 of "m2" and "m^2" belongs to a unit, the 4 of "room4" to a name.
        glued = re.match(r"[\w^]", text[token.start() - 1 : token.start()])
        word = (token["word"] or "").lower()
        if word in _UNREAD_WORDS:
            return None, "ambiguous_number"
        if word in _WORD_VALUES and not glued:
            sign = sign if run else _sign(text, token.start(), before)
            run.append(word)
        elif run and not _joins(text, token, run):
            values.add(_spoken(run, sign))
            run = []
        if re.search("[0-9]", token["digits"] or "") and not glued:
            sign = _sign(text, token.start(), before)
            values.add(_written(token["digits"], token["exponent"] or "", sign))
        before = word
    if run:
        values.add(_spoken(run, sign))
    if not values:
        return None, "no_number"
    if len(values) > 1 or None in values:
        return None, "ambiguous_number"
    (value,) = values
    if not abs(value) <= MAX_NUMBER:
        return None, "number_out_of_range"
    return value, None


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
