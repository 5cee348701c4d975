"""The answer grammar: letters and numbers as people and models write them.

Reads a short answer, such as the content of an answer tag. The two readers share what
may stand around an answer:

markup    ``**B**``, ``_B_``, `` `B` ``, ``"B"``, ``[B]``, ``\\boxed{B}``, ``- B``,
          and tokens such as ``<|im_end|>``
phrases   ``Answer: B``, ``The answer is B``, ``Option B``, ``B is correct``,
          ``答案是B``
clauses   ``Seen from the door, the answer is B``, if the clause names no other option
notes     a line or a bracket after the answer that names no other one

Full-width marks are read as the plain ones. Two different answers, a negation and a
letter that is no option are never read. Every reading carries how it was read, one of
``HOWS``.

Departure from SpaceR Eq. 2 (https://arxiv.org/abs/2504.01805), an exact match. The
exact forms alone are ``choices.read_choice`` and ``numbers.read_number``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spacer_lib.language.choices import (
    MAX_ANSWER_CHARS,
    labelled_options,
    plain_text,
    read_choice,
)
from spacer_lib.language.numbers import read_number

GRAMMARS = ("strict", "wide")
MAX_NOTE_LINES = 20
HOWS = (
    "letter",
    "letter_and_text",
    "option_text",
    "number",
    "text",
    "wrapped",
    "sentence",
    "note",
)


class Reading(NamedTuple):
    """One answer, or why there is none.

    Attributes
    ----------
    answer : str or None
        A letter of the options, a number in digits, or a text.
    value : float or None
        The number, in the unit asked for.
    how : str or None
        One of ``HOWS``. ``letter``, ``letter_and_text``, ``option_text``, ``number``
        and ``text``: nothing else is there. ``wrapped``: it was in markup.
        ``sentence``: it was in a phrase. ``note``: a note followed it.
    failure : str or None
        ``not_an_option``, ``answer_too_long`` or one of ``numbers.NUMBER_FAILURES``.
    """

    answer: str | None
    value: float | None = None
    how: str | None = None
    failure: str | None = None


def read_letter(
    text: str, options: Sequence[str] | None, grammar: str = "wide"
) -> Reading:
    """The option that an answer chooses.

    Parameters
    ----------
    text : str
    options : sequence of str or None
        ``None``: a letter alone can be read, and no text.
    grammar : str
        ``strict``: the forms of ``read_choice`` alone.

    Examples
    --------
    >>> sofa = ["A. table", "B. sofa"]
    >>> [read_letter(said, sofa)[::2] for said in ("B", "**B**", "Option B: sofa")]
    [('B', 'letter'), ('B', 'wrapped'), ('B', 'sentence')]
    >>> [read_letter(said, sofa).answer for said in ("A or B", "Not B", "A sofa")]
    [None, None, None]
    """
    if len(text) > MAX_ANSWER_CHARS:
        return Reading(None, failure="answer_too_long")
    letter = read_choice(text, options)
    if letter is not None:
        return Reading(letter, how=_form(text, options))
    texts = labelled_options(options) if options else {}
    found = None
    if grammar == "wide":
        found = _wide_letter(_narrow(text), texts, options)
    if found is None:
        return Reading(None, failure="not_an_option")
    return Reading(found[0], how=found[1])


def read_figure(text: str, unit: str | None = None, grammar: str = "wide") -> Reading:
    """The number that an answer states; see ``numbers.read_number``.

    Parameters
    ----------
    text : str
    unit : str, optional
        The unit asked for.
    grammar : str
        ``wide``: a number on a line of its own may be followed by lines of notes.

    Examples
    --------
    >>> read_figure("There are 4.")
    Reading(answer='4', value=4.0, how='sentence', failure=None)
    """
    if grammar == "wide":
        text = _narrow(text)
    value, failure = read_number(text, unit)
    how = _number_form(text) if value is not None else None
    if failure == "ambiguous_number" and grammar == "wide":
        first, rest = _first_line(text)
        # A further line that is a number alone is a second answer, not a note.
        others = [_number_form(line) in ("number", "wrapped") for line in rest]
        alone = _number_form(first) in ("number", "wrapped")
        noted = 0 < len(rest) <= MAX_NOTE_LINES and not _revised(rest)
        if alone and noted and not any(others):
            value, failure = read_number(first, unit)
            how = "note" if value is not None else None
    if value is None:
        return Reading(None, failure=failure)
    return Reading(f"{value:.12g}", value, how)


# ---------------------------------------------------------------- what stands around

_LATEX = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|mathrm|mathbf|rm)\s*\{([^{}]*)\}"
)
_MARKUP = re.compile(
    r"[*`$#]|\\[()\[\]]|(?<!\w)_+|(?<!_)_+(?!\w)|</?(?:b|i|em|strong|code|s)>"
    r"|<\|[a-z_]{1,30}\|>"
)
_BULLET = re.compile("(?:[->•·–—→✅✔✓☑\ufe0f]+\\s+)+")
_TICK = re.compile("\\s*[✅✔✓☑\ufe0f]+$")
# Full-width and East Asian marks, one character each. Letters and digits stay: only
# those of ASCII are letters and digits here.
_PLAIN_FORMS: Mapping[int, str] = {
    **{
        code: chr(code - 0xFEE0)
        for code in range(0xFF01, 0xFF5F)
        if not chr(code - 0xFEE0).isalnum()
    },
    **dict(
        zip(map(ord, "。、【】「」『』《》〈〉\u3000"), '.,[]""""<><> ', strict=True)
    ),
}
_PAIRS = ("()", "[]", "{}", "<>", '""', "''", "“”", "‘’", "«»", "„“")
_MARKS = " \t\n.,;:!"
_PHRASE = re.compile(
    r"(?!one\b)(?:(?:so|thus|hence|therefore|then)[,:]?\s+)?(?:"
    r"(?:(?:the|my|our|your|this)\s+)?"
    r"(?:(?:final|correct|right|best|chosen|selected|most\s+likely|likely)\s+){0,3}"
    r"(?:answer|ans|option|choice|selection|solution|response|one|guess|letter)\b"
    r"(?:\s+(?:to|for)\s+(?:the|this)\s+question)?"
    r"(?:\s+(?:is|would\s+be|should\s+be|must\s+be))?"
    r"|(?:correct|right|final|selected|chosen|result|prediction|assistant)(?=\s*[:=])"
    r"|(?:it|that)(?:\s+is|['’]s|\s+(?:would|should|must)\s+be)\b"
    r"|i(?:\s+(?:would|will|['’]ll|have\s+to|must)|['’]d|['’]ll)?\s+"
    r"(?:say|choose|pick|select|answer|go\s+(?:with|for)|think|believe)\b"
    r"(?:\s+(?:that\b\s*)?(?:it\s+is|it['’]s|the\s+answer\s+is))?"
    r"|(?:(?:因此|所以|综上(?:所述)?|那么|故)\s*,?\s*)?我?(?:的|会)?"
    r"(?:(?:最终|最后|正确|最佳)的?)?(?:答案|选项|选择|选)(?:应该|应当|应)?[是为]?(?!不)"
    r")\s*(?:[:=]|[-–—]\s)*\s*",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"\s+(?:is|would\s+be|must\s+be|should\s+be|seems)\s+"
    r"(?:(?:the|my)\s+)?(?:final\s+)?"
    r"(?:correct|right|best|answer)(?:\s+(?:answer|option|choice|one))?\s*",
    re.IGNORECASE,
)
# Words that take an answer back, or offer a second one.
_DOUBT = re.compile(
    r"\b(?:or|nor|not|no|neither|either|maybe|perhaps|possibly|unless|wait|actually"
    r"|instead|however|but|correction|rather|alternatively|unsure|and)\b"
    r"|n['’]t\b|[/&|?]",
    re.IGNORECASE,
)
_REVISION = re.compile(
    r"\W*(?:or|nor|not|no|wait|actually|instead|however|but|correction|rather"
    r"|alternatively|hmm|and|maybe|perhaps|possibly)\b",
    re.IGNORECASE,
)


def _bare(text: str) -> str:
    """A text without markup: LaTeX, emphasis, code, dollar signs, control tokens."""
    for _ in range(4):  # \boxed{\text{B}}
        text, count = _LATEX.subn(r" \1 ", text)
        if not count:
            break
    return _MARKUP.sub("", text)


def _peeled(text: str) -> str:
    """A text without marks, quotes and brackets around all of it."""
    for _ in range(6):
        before = text
        text = text.strip(" \t\n").rstrip(_MARKS)
        if text[:1] + text[-1:] in _PAIRS and _is_one_block(text):
            text = text[1:-1]
        if text == before:
            break
    return text


def _is_one_block(text: str) -> bool:
    """Whether the last character closes what the first one opens."""
    opening, closing = text[0], text[-1]
    if opening == closing:
        return opening not in text[1:-1]
    depth = 0
    for place, mark in enumerate(text):
        depth += (mark == opening) - (mark == closing)
        if depth == 0:
            return place == len(text) - 1
    return False


def _narrow(text: str) -> str:
    """Full-width and East Asian marks as the plain ones."""
    return text if text.isascii() else text.translate(_PLAIN_FORMS)


def _first_line(text: str) -> tuple[str, list[str]]:
    """The first line that says something, and those after it."""
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[0], lines[1:]) if lines else ("", [])


def _revised(lines: Sequence[str]) -> bool:
    """Whether a further line takes the answer back."""
    return any(_REVISION.match(_bare(line)) for line in lines)


# ---------------------------------------------------------------- letters

_Found = tuple[str, str]  # letter, how
_ALONE = re.compile(r"([A-Za-z])[.):;]?")
_MARKED = re.compile(
    r"(?:[(\[{]([A-Za-z])[)\]}]\s*[.:,;]?|([A-Za-z])\s*(?:[.:;,)\]=]|[-–—](?=\s)))"
    r"\s*(?:[-–—]\s+)?(.+)",
    re.DOTALL,
)
_UNMARKED = re.compile(r"([B-HJ-Z])\s+(.+)", re.DOTALL)  # A and I are words
_ARTICLE = re.compile(r"(?:the|an)\s+", re.IGNORECASE)  # a is a letter
_REASON = re.compile(r"(?:because|since|as|due\s+to)\b", re.IGNORECASE)
_LABEL = re.compile(r"(?:(?<![\w'’])[B-HJ-Z](?![\w'’])|(?<![\w'’])A(?=[.):,]))")
# "sofa (B)", "the sofa (option B)", "sofa - B"
_LETTER_LAST = re.compile(
    r"(.+?)\s*(?:[(\[]\s*(?:(?:option|answer)\s+)?([A-Za-z])\s*[)\]]|[-–—:]\s+([A-Z]))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"(?P<clause>[^.!?]{1,200}?)[,;:]\s+"
    r"(?P<said>(?:(?:so|thus|hence|therefore),?\s+)?"
    r"(?:the|my)\s+(?:(?:final|correct|right|best|most\s+likely)\s+){0,2}"
    r"(?:answer|option|choice)\s+(?:is|would\s+be|must\s+be|should\s+be)\b.{1,200})",
    re.IGNORECASE,
)


def _form(text: str, options: Sequence[str] | None) -> str:
    """How ``read_choice`` read a text."""
    if options is None or read_choice(text, None):
        return "letter"
    texts = labelled_options(options).values()
    if any(plain_text(text) == plain_text(option) for option in texts):
        return "option_text"
    return "letter_and_text"


def _wide_letter(
    text: str, texts: Mapping[str, str], options: Sequence[str] | None
) -> _Found | None:
    known = {label: _plain(option) for label, option in texts.items()}
    first, rest = _first_line(text)
    whole = _one_line(" ".join([first, *rest]), known, options)
    if whole or not 0 < len(rest) <= MAX_NOTE_LINES:
        return whole
    found = _one_line(first, known, options)
    if found is None and _PHRASE.fullmatch(_bare(first).strip()):
        # "Answer:" on a line of its own: what follows is the answer.
        found = _one_line(rest[0], known, options)
        rest = rest[1:]
    if found is None or _revised(rest):
        return None
    said = {other[0] for line in rest if (other := _one_line(line, known, options))}
    return (found[0], "note") if said <= {found[0]} else None


def _one_line(
    text: str, known: Mapping[str, str], options: Sequence[str] | None
) -> _Found | None:
    plain = " ".join(_bare(text).split())
    plain = _TICK.sub(
        "", plain[bullet.end() :] if (bullet := _BULLET.match(plain)) else plain
    )
    return _phrased(plain, known, options) or _after_clause(plain, known, options)


def _after_clause(
    text: str, known: Mapping[str, str], options: Sequence[str] | None
) -> _Found | None:
    """The answer behind "Seen from the door, the answer is", if it is the only one."""
    found = _CLAUSE.fullmatch(text)
    if found is None:
        return None
    clause = found["clause"]
    if _DOUBT.search(clause) or _LABEL.search(clause):
        return None
    said = _phrased(found["said"], known, options)
    if said is None or _phrased(clause, known, options):  # "A, the answer is B"
        return None
    plain = _plain(clause)
    others = (option for label, option in known.items() if label != said[0])
    return None if any(_mentions(plain, option) for option in others) else said


def _phrased(
    text: str, known: Mapping[str, str], options: Sequence[str] | None
) -> _Found | None:
    core, how = _peeled(text), "wrapped"
    for _ in range(4):  # "So the answer is: Option B"
        found = _core(core, known, options)
        if found:
            return found[0], how if how == "sentence" else found[1] or how
        shorter = core
        phrase = _PHRASE.match(core)
        joint = core[phrase.end() - 1 : phrase.end() + 1] if phrase else ""
        if phrase and not (joint.isalnum() and joint.isascii()):
            shorter = core[phrase.end() :]
        else:
            tail = _VERDICT.search(core)
            if tail and tail.end() == len(core):
                shorter = core[: tail.start()]
        if shorter == core:
            return None
        core, how = _peeled(shorter), "sentence"
    return None


def _core(
    core: str, known: Mapping[str, str], options: Sequence[str] | None
) -> tuple[str, str] | None:
    """Letter and how (empty: as the caller peeled it) of an answer without phrases."""
    alone = _ALONE.fullmatch(core)
    if alone:
        letter = alone[1].upper()
        return (letter, "") if options is None or letter in known else None
    if not known:
        return None
    plain = _plain(core)
    article = _ARTICLE.match(plain)
    same = [
        label
        for label, option in known.items()
        if option and option in (plain, plain[article.end() :] if article else plain)
    ]
    if same:
        return (same[0], "") if len(same) == 1 else None
    last = _LETTER_LAST.fullmatch(core)
    if last and (letter := (last[2] or last[3]).upper()) in known:
        said = _plain(last[1])
        article = _ARTICLE.match(said)
        if known[letter] in (said, said[article.end() :] if article else said):
            return letter, "letter_and_text"
    marked = _MARKED.fullmatch(core)
    match = marked or _UNMARKED.fullmatch(core)
    if match is None:
        return None
    letter = (match[1] or (match[2] if marked else "")).upper()
    rest = match[3] if marked else match[2]
    if letter not in known:
        return None
    return _with_text(letter, rest, known, marked is not None)


def _with_text(
    letter: str, rest: str, known: Mapping[str, str], marked: bool
) -> tuple[str, str] | None:
    """A letter and what follows it: its option's text, with or without a remark."""
    plain, own = _plain(rest), known[letter]
    article = _ARTICLE.match(plain)
    if own in (plain, plain[article.end() :] if article else plain):
        return letter, "letter_and_text"
    if not own or _DOUBT.search(rest) or _LABEL.search(rest):
        return None
    others = [
        option for label, option in known.items() if label != letter and option != own
    ]
    if any(_mentions(plain, option) for option in others):
        return None
    # "B. sofa (the red one)", "B. The sofa is closest", "B, because it is near".
    if marked and (_mentions(plain, own) or _REASON.match(rest)):
        return letter, "note"
    return None


def _mentions(plain: str, option: str) -> bool:
    place = plain.find(option) if option else -1
    while place >= 0:
        around = plain[place - 1 : place], plain[place + len(option) :][:1]
        if not any(mark.isalnum() for mark in around):
            return True
        place = plain.find(option, place + 1)
    return False


def _plain(text: str) -> str:
    """For comparison: without markup, case, and marks or brackets around it."""
    return plain_text(_peeled(_bare(text)))


# ---------------------------------------------------------------- numbers

_FIGURE = re.compile(r"[-−+]?[0-9][0-9.,/ ]*|[-−+]?\.[0-9]+|[-−+]?[0-9]*\s?[¼-¾⅐-⅞]")


def _number_form(text: str) -> str:
    """``number``, ``wrapped`` or ``sentence``; a unit after a number is part of it."""
    core = _without_unit(text.strip().rstrip("."))
    if _FIGURE.fullmatch(core):
        return "number"
    if _FIGURE.fullmatch(_without_unit(_peeled(_bare(text)))):
        return "wrapped"
    return "sentence"


_UNIT_AFTER = re.compile(
    r"\s*(?:square|sq\.?|cubic)?\s*(?:mm|cm|km|m|ft|yd|in|inch(?:es)?|feet|foot|yards?"
    r"|(?:milli|centi|kilo)?met(?:er|re)s?)(?:\^?[23]|[²³])?\s*",
    re.IGNORECASE,
)


def _without_unit(text: str) -> str:
    figure = _FIGURE.match(text)
    if figure and _UNIT_AFTER.fullmatch(text, figure.end()):
        return figure[0].strip()
    return text
