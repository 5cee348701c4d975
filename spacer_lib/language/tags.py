"""The blocks of a completion: think, map and answer, written and read.

Reads the text that a model generated, and names what is wrong with it. A well-formed
completion is one think block and then one answer block, with the map inside the think
block or between the two::

    <think> <map>{"chair":[[2,5]]}</map> two steps east … </think><answer>B</answer>

vsGRPO's other two shapes are read as well: ``observe`` has another name for the first
block, ``vanilla`` has an answer alone, with or without its tag. No text raises, none
is evaluated, and the time is linear in its length.

Departures from the released code: the answer is read from its tag whether or not the
rest is well-formed; the format reward judges the rest. Two blocks of one name are a
failure, and neither is read.

Source: SpaceR Eq. 1, https://arxiv.org/abs/2504.01805; vsGRPO §4.2,
https://arxiv.org/abs/2504.00883.
"""

import re
from dataclasses import dataclass

from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import map_to_text, parse_map
from spacer_lib.rows import CognitiveMap, Question

MAX_THINK_CHARS = 2_000  # of a think block, looked at for a template

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


@dataclass(frozen=True)
class Completion:
    """What a completion says.

    Attributes
    ----------
    think, map_text, answer : str or None
        Contents of the blocks, stripped; ``None`` unless there is exactly one.
    map : dict or None
        ``{category: [(x_col, y_row), …]}``.
    failure : str or None
        The first of ``FAILURES`` that holds. An observe block has the failures of a
        think block.
    map_failure : str or None
        ``no_map`` (only where one is expected), ``unclosed_map``, ``two_maps``, or a
        failure of ``maps.text.parse_map``.
    flags : tuple of str
        Signs of a reward hack. They do not change ``failure``. ``empty_think``:
        nothing in the think block but the map. ``template_think``: without map, tags
        and phrases that repeat an instruction ("your reasoning here", "think step by
        step"), fewer than three different words are left in its first 2,000
        characters.
    """

    think: str | None
    map_text: str | None
    map: CognitiveMap | None
    answer: str | None
    failure: str | None
    map_failure: str | None
    flags: tuple[str, ...] = ()

    @property
    def format_ok(self) -> bool:
        """Whether the blocks follow each other with nothing else but a map."""
        return self.failure is None


def read_completion(
    text: str, *, expect_map: bool = False, grid_size: int = 10, shape: str = "think"
) -> Completion:
    """Read the blocks of a completion.

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

    Raises
    ------
    SpacerError
        For an unknown shape.
    """
    if shape not in SHAPES:
        raise SpacerError(
            "completion shape",
            kind="language.unknown-shape",
            got=shape,
            expected=", ".join(SHAPES),
        )
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
    failure = answer_failure or think_failure
    if answer is not None and failure is None:
        failure = _misplaced(text, think, answer)
    return Completion(
        think=None if think is None else think.content.strip(),
        map_text=None if drawn is None else drawn.content.strip(),
        map=cells,
        answer=None if answer is None else answer.content.strip(),
        failure=failure,
        map_failure=map_failure,
        flags=() if think is None else _flags(without_map(think.content)),
    )


def answer_part(text: str) -> str:
    """The part of an output that a reader of answers looks at.

    Where there is no answer tag, this is the text after the last closed think block,
    without its map. The opening tag may be missing: some chat templates write it into
    the prompt. Every other text is returned as it is.

    Examples
    --------
    >>> answer_part("<think>A or B?</think>\\n\\nB"), answer_part("A or B?</think>B")
    ('B', 'B')
    >>> answer_part("<think>A or B?")
    '<think>A or B?'
    """
    if _ANSWER_TAG.search(text):
        return text
    _, closed, after = text.rpartition("</think>")
    if not closed or "<think>" in after:
        return text
    return without_map(after).strip()


def tagged_answer(text: str) -> str:
    """The content of the one answer tag; without such a tag, the ``answer_part``.

    Older rules read the first word, which is a tag in the output of a thinking model.

    Examples
    --------
    >>> tagged_answer("<think>two</think><answer> B </answer>"), tagged_answer("B")
    ('B', 'B')
    """
    answer = read_completion(text, shape="vanilla").answer
    return answer_part(text) if answer is None else answer


def begin_with_map(row: Question, cells: CognitiveMap) -> str:
    """``<think><map>…</map>``, with the question's categories last."""
    return f"<think><map>{map_to_text(cells, row.get('categories') or ())}</map>"


def write_completion(
    answer: str, thought: str = "", cells: CognitiveMap | None = None
) -> str:
    """A well-formed completion, as ``read_completion`` reads it.

    Parameters
    ----------
    answer : str
    thought : str
        What follows the map in the think block.
    cells : CognitiveMap, optional
        The map to draw.

    Examples
    --------
    >>> write_completion("B", "two steps east", {"chair": [[2, 5]]})
    '<think><map>{"chair":[[2,5]]}</map>two steps east</think><answer>B</answer>'
    """
    drawn = "" if cells is None else f"<map>{map_to_text(cells)}</map>"
    return f"<think>{drawn}{thought}</think><answer>{answer}</answer>"


@dataclass(frozen=True)
class _Block:
    content: str
    start: int  # of the opening tag
    stop: int  # after the closing tag


_TAG = re.compile("</?(?:think|observe|answer)>")
_ANSWER_TAG = re.compile("</?answer>")
_MISSING = {"answer": "no_answer_tag", "think": "no_think", "map": "no_map"}


def _single_block(text: str, tag: str) -> tuple[_Block | None, str | None]:
    """The one block of a tag, and a failure or ``None``."""
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


def without_map(text: str) -> str:
    """A text without its first map block, tags included."""
    start = text.find("<map>")
    stop = text.find("</map>", start)
    if 0 <= start < stop:
        return text[:start] + text[stop + len("</map>") :]
    return text


# Phrases of a thought that repeat the instruction to think, in lower case.
_INSTRUCTION = re.compile(
    r"<[^<>]{1,20}>|\b(?:(?:let'?s |let us )?(?:think(?:ing)? )?step[ -]by[ -]step"
    r"|(?:(?:write|put|insert|add) )?(?:(?:your|my|the) )?(?:detailed )?"
    r"(?:reasoning|thinking|thoughts?|analysis)(?: process)?"
    r"(?: (?:goes|go|comes))?(?: (?:here|inside))?)\b"
)
# Outside ASCII each letter counts as a word: some scripts have no spaces.
_WORD = re.compile(r"[0-9a-z]+|[^\W_]")


def _flags(thought: str) -> tuple[str, ...]:
    """Flags of a think block without its map."""
    if not thought.strip():
        return ("empty_think",)
    thought = " ".join(thought[:MAX_THINK_CHARS].casefold().split())
    words = set(_WORD.findall(_INSTRUCTION.sub(" ", thought)))
    return ("template_think",) if len(words) < 3 else ()


def _misplaced(text: str, think: _Block | None, answer: _Block) -> str | None:
    """The failure of two blocks with a wrong order or with text around them."""
    if think is None:  # the shape has no think block
        around = without_map(text[: answer.start]) + text[answer.stop :]
        return "text_outside_tags" if around.strip() else None
    if think.start < answer.start < think.stop:
        return "answer_inside_think"
    if answer.start < think.stop:
        return "text_outside_tags"
    between = without_map(text[think.stop : answer.start])
    outside = text[: think.start], between, text[answer.stop :]
    return "text_outside_tags" if any(part.strip() for part in outside) else None
