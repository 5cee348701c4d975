"""Prompts: question, options and how to answer, as a chat turn.

Reads question rows. The modes:

``think``      reason, then answer
``think_map``  draw the map, reason, then answer
``think_boxes``  the same with boxes in metres in place of cells (``maps.boxes``)
``observe``    say what is seen, then answer
``direct``     answer at once, in a tag
``vanilla``    answer at once, without a tag
``tiny``       question and options alone: the tiny model's warm start taught it how to
               answer; ``tiny_observe`` and ``tiny_vanilla`` ask the same of a model
               that was taught those forms

Departures from the published prompts, whose words are not repeated here: the frame of
the map is stated (``FRAMES`` lists the ways, to compare), and the example of a map is
no readable map, so that copying it earns nothing. ``load_template`` reads another
system's prompt from a file.

Source: the modes of SpaceR §4.2, https://arxiv.org/abs/2504.01805, and vsGRPO §4.2,
https://arxiv.org/abs/2504.00883.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacer_lib.artifacts import PathLike
from spacer_lib.errors import SpacerError, nearest
from spacer_lib.rows import Question
from spacer_lib.settings import parse_yaml

Messages = list[dict[str, Any]]  # chat turns

TINY_MODES = ("tiny", "tiny_observe", "tiny_vanilla")
MAP_MODES = ("think_map", "think_boxes")  # they ask for a map
_WORDED = ("think", "think_map", "observe", "direct", "vanilla", "think_boxes")
MODES = (*_WORDED, *TINY_MODES)
FRAMES = ("aligned", "start_view", None)

_ANSWER_FORMS = {
    "multiple choice": "the letter of the right option",
    "numerical": "one number in digits",
    "regression": "one number in digits",
    "option-free": "the words of your choice",
    "ocr": "the text you read, word for word",
    "free-form": "a short answer",
}
# Tokenisers of Qwen-VL, Kimi-VL and their like read these as structure, not as text.
_CONTROL_WORD = re.compile(r"<\|\w+\|>")
EXAMPLE_BOXES = '{"kind":[[x,y,along x,along y]],"other kind":[[x,y,along x,along y]]}'
EXAMPLE_MAP = '{"kind":[[column,row],[column,row]],"other kind":[[column,row]]}'


def user_text(
    row: Question,
    mode: str,
    grid_size: int = 10,
    *,
    frame: str | None = "aligned",
    template: "Template | None" = None,
) -> str:
    """The text part of a prompt.

    Parameters
    ----------
    row : Question
        Its ``question``, ``problem_type`` and ``options`` are read. A row whose
        ``part`` is ``general`` is asked for no map.
    mode : str
        One of ``MODES``.
    grid_size : int
        M, named in ``think_map``.
    frame : str or None
        What ``MAP_MODES`` say about the map's axes. ``aligned``: columns run with +x
        and rows with +y of the aligned frame, as in true maps. ``start_view``: rows
        run away from the camera of the first frame. ``None``: nothing, as published.
        True maps stay aligned: with the last two, score maps by ``aligned``, which
        allows quarter turns.
    template : Template, optional
        Replaces the mode's own words.

    Raises
    ------
    SpacerError
        For an unknown mode, frame or problem type.
    """
    if mode not in MODES:
        raise SpacerError(
            "prompt mode",
            kind="language.unknown-mode",
            got=mode,
            expected=", ".join(MODES),
            remedy=nearest(mode, MODES),
        )
    if frame not in FRAMES:
        raise SpacerError(
            "frame of the map",
            kind="language.unknown-frame",
            got=frame,
            expected=", ".join(map(str, FRAMES)),
        )
    options = row["options"] or []
    asked = "\n".join([row["question"], *options])
    if mode in TINY_MODES and template is None:
        return asked
    kind = row["problem_type"]
    kind = kind.lower() if isinstance(kind, str) else kind
    if kind not in _ANSWER_FORMS:
        raise SpacerError(
            "problem type",
            kind="language.unknown-problem-type",
            got=kind,
            expected=", ".join(_ANSWER_FORMS),
        )
    # General pictures and videos show no room to draw (SpaceR §4.2: the map supports
    # spatial reasoning).
    has_room = row.get("part") != "general"
    map_text = ""
    if mode in MAP_MODES and has_room:
        boxes = mode == "think_boxes"
        map_text = _boxes_text(frame) if boxes else _map_text(grid_size, frame)
    if template is not None:
        form = template.texts.get(row.get("question_type", ""))
        return template.fill(
            form or template.texts.get(kind),
            question=row["question"],
            options="\n".join(options),
            answer_form=template.answer_forms.get(kind, _ANSWER_FORMS[kind]),
            map=map_text,
        )
    form = f"Inside <answer></answer> write only {_ANSWER_FORMS[kind]}."
    if mode == "vanilla":
        return f"{asked}\n\nAnswer with {_ANSWER_FORMS[kind]} and nothing else."
    if mode == "direct":
        return f"{asked}\n\nAnswer at once, without any explanation. {form}"
    if mode == "observe":
        return (
            f"{asked}\n\nWrite two blocks: what the video shows that bears on the "
            f"question inside <observe></observe>, then the answer. {form}"
        )
    blocks = "Write two blocks: your reasoning inside <think></think>, then the answer."
    return "\n\n".join([asked, f"{blocks} {form}", *filter(None, [map_text])])


def control_words(row: Question) -> list[str]:
    """Control words in a question and its options, such as ``<|video_pad|>``.

    A prompt with one has more placeholders than videos, or ends early, and the model
    cannot be asked.

    Examples
    --------
    >>> control_words({"question": "Where is <|im_end|>?", "options": ["A. here"]})
    ['<|im_end|>']
    """
    texts = [row["question"], *(row.get("options") or ())]
    return [word for text in texts for word in _CONTROL_WORD.findall(text)]


def _map_text(grid_size: int, frame: str | None) -> str:
    last = grid_size - 1
    axes = {
        "aligned": (
            f"Columns run from 0 to {last} towards the right (east, +x); rows run from "
            f"0 to {last} towards the top (north, +y)."
        ),
        "start_view": (
            f"Up is where the camera of the first frame looks: rows run from 0 to "
            f"{last} away from it, columns from 0 to {last} from its left to its right."
        ),
        None: f"Columns and rows run from 0 to {last}.",
    }
    return (
        "Begin your reasoning with a map of the room seen from above, inside "
        f"<map></map>. Divide the floor into {grid_size} x {grid_size} cells. "
        f"{axes[frame]} As one line of JSON, give for every kind of "
        "object the cell at the centre of each one that you see: "
        f"{EXAMPLE_MAP}. Then use the map to work out the answer."
    )


def _boxes_text(frame: str | None) -> str:
    axes = {
        "aligned": "x grows towards the right (east) and y towards the top (north).",
        "start_view": "y grows away from the camera of the first frame, and x towards "
        "its right.",
        None: "x and y run along the walls.",
    }
    return (
        "Begin your reasoning with a map of the room seen from above, inside "
        "<map></map>, in metres from the middle of the floor. "
        f"{axes[frame]} As one line of JSON, give for every kind of object the box of "
        "each one that you see: its middle and its two lengths on the floor, "
        f"{EXAMPLE_BOXES}. Then use the map to work out the answer."
    )


@dataclass(frozen=True)
class PromptStyle:
    """How questions are asked: the arguments of ``user_text``."""

    mode: str
    grid_size: int = 10
    frame: str | None = "aligned"
    template: "Template | None" = None

    def messages(self, row: Question) -> Messages:
        """See ``messages``."""
        return messages(
            row, self.mode, self.grid_size, frame=self.frame, template=self.template
        )


def messages(
    row: Question,
    mode: str,
    grid_size: int = 10,
    *,
    frame: str | None = "aligned",
    template: "Template | None" = None,
) -> Messages:
    """One user turn in chat format: ``media_parts``, then ``user_text``."""
    text = user_text(row, mode, grid_size, frame=frame, template=template)
    content = [*media_parts(row), {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def media_parts(row: Question) -> list[dict[str, str]]:
    """The video or the images of a row, as parts of a chat turn; none for text alone.

    Paths and ``room://`` addresses are passed on as they are. No file is read.

    Parameters
    ----------
    row : Question
        With ``video`` (one path or address) or ``image`` (one path or a list of
        them), or neither.

    Raises
    ------
    SpacerError
        If it has both.
    """
    video, images = row.get("video"), row.get("image") or []
    if video and images:
        raise SpacerError(
            f"media of question {row.get('id')}",
            kind="language.two-media",
            got="a video and an image",
            expected="one of the two, or neither",
        )
    if video:
        return [{"type": "video", "video": video}]
    if not isinstance(images, (list, tuple)):
        images = [images]
    return [{"type": "image", "image": path} for path in images]


# ---------------------------------------------------------------- templates

PLACEHOLDERS = ("question", "options", "answer_form", "map")
# A doubled brace keeps a name as it stands; other braces are text ('{"bed": …').
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Template:
    """Another system's prompt.

    Attributes
    ----------
    text : str
        With ``{question}`` and, where wanted, ``{options}`` (one a line),
        ``{answer_form}`` and ``{map}`` (the map's instructions in mode ``think_map``,
        else empty). ``{{name}}`` is written as ``{name}``.
    answer_forms : dict
        Problem type → words for ``{answer_form}``, in place of ours.
    texts : dict
        Question type or problem type → another text than ``text``.

    Raises
    ------
    SpacerError
        For an unknown placeholder or problem type, or a text without the question.
    """

    text: str
    answer_forms: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in (self.text, *self.texts.values()):
            self._check(text)
        unknown = sorted(set(self.answer_forms) - set(_ANSWER_FORMS))
        if unknown:
            raise SpacerError(
                "answer forms of a prompt template",
                kind="language.template-answer-forms",
                got=", ".join(unknown),
                expected=", ".join(_ANSWER_FORMS),
            )

    @staticmethod
    def _check(text: str) -> None:
        named = {match[2] for match in _PLACEHOLDER.finditer(text)} - {None}
        if "question" not in named or not named <= set(PLACEHOLDERS):
            raise SpacerError(
                "placeholders of a prompt template",
                kind="language.template-placeholders",
                got=", ".join(sorted(named)) or "none",
                expected=f"question, and any of {', '.join(PLACEHOLDERS[1:])}",
                remedy="double the braces of a {{name}} that is text",
            )

    def fill(self, text: str | None = None, **values: str) -> str:
        """A text with its placeholders replaced; placeholders in values are kept.

        Without one: the template's ``text``.
        """
        return _PLACEHOLDER.sub(
            lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}",
            self.text if text is None else text,
        )


def load_template(path: PathLike) -> Template:
    """Read a prompt template.

    Parameters
    ----------
    path : path
        A text file, or ``.yaml`` with ``text``, ``answer_forms`` and ``texts`` (see
        ``Template``). One newline at the end is left out of the prompt.

    Raises
    ------
    SpacerError
        If the file cannot be read, or is no template.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content: Any = {"text": text}
        if path.suffix in (".yaml", ".yml"):
            content = parse_yaml(text, f"prompt template {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise SpacerError(
            f"prompt template {path} cannot be read",
            kind="language.template-unreadable",
            got=error,
            expected="a text with {question}, or YAML",
        ) from error
    parts = ("answer_forms", "texts")
    forms: list[Any] = [None]
    if isinstance(content, dict):
        forms = [content.get(part, {}) for part in parts]
    if (
        not all(isinstance(form, dict) for form in forms)
        or not set(content) <= {"text", *parts}
        or not isinstance(content.get("text"), str)
        or not all(
            isinstance(word, str)
            for form in forms
            for pair in form.items()
            for word in pair
        )
    ):
        raise SpacerError(
            f"prompt template {path}",
            kind="language.template-keys",
            got=str(content)[:60],
            expected="text, and answer_forms and texts by problem type",
        )
    return Template(content["text"].removesuffix("\n"), *forms)
