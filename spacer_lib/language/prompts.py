"""What the model is asked: question, options, and how to answer.

``think``      reason, then answer
``think_map``  draw the map, reason, then answer
``observe``    say what is seen, then answer
``direct``     answer at once, in a tag
``vanilla``    answer at once, nothing else: no tags
``tiny``       question and options alone: the tiny model's warm start taught the rest;
               ``tiny_observe`` and ``tiny_vanilla`` ask the same of a model that was
               taught to answer in those forms

The map's frame is stated, which no published prompt does; ``FRAMES`` lists the ways,
to compare. The map's example is no readable map: copying it earns nothing. All words
are ours; ``load_template`` takes another system's from a file.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from spacer_lib.errors import SpacerError

TINY_MODES = ("tiny", "tiny_observe", "tiny_vanilla")
MODES = ("think", "think_map", "observe", "direct", "vanilla", *TINY_MODES)
FRAMES = ("aligned", "start_view", None)

_ANSWER_FORMS = {
    "multiple choice": "the letter of the right option",
    "numerical": "one number in digits",
    "regression": "one number in digits",
    "option-free": "the words of your choice",
    "ocr": "the text you read, word for word",
    "free-form": "a short answer",
}
EXAMPLE_MAP = '{"kind":[[column,row],[column,row]],"other kind":[[column,row]]}'


def user_text(row, mode, grid_size=10, *, frame="aligned", template=None):
    """The text part of a prompt.

    Parameters
    ----------
    row : dict
        Question row: ``question``, ``problem_type`` and ``options`` (``None``, or
        lines such as ``A. table``); of a joint set also ``part``: ``general`` rows are
        asked for no map.
    mode : str
        One of ``MODES``.
    grid_size : int
        M, named in ``think_map``.
    frame : str or None
        Which way the map's axes run, said in ``think_map``: ``aligned``, columns with
        +x and rows with +y of the aligned scene, as true maps have them;
        ``start_view``, rows away from the camera of the first frame; ``None``,
        nothing, as published. True maps stay aligned: beside the last two, score with
        ``aligned``, which forgives quarter turns.
    template : Template, optional
        Of ``load_template``; replaces the mode's own words.

    Raises
    ------
    SpacerError
        For an unknown mode, frame or problem type.
    """
    if mode not in MODES:
        raise SpacerError("prompt mode", got=mode, expected=", ".join(MODES))
    if frame not in FRAMES:
        raise SpacerError(
            "frame of the map", got=frame, expected=", ".join(map(str, FRAMES))
        )
    asked = "\n".join([row["question"], *(row["options"] or ())])
    if mode in TINY_MODES and template is None:
        return asked
    kind = row["problem_type"]
    if kind not in _ANSWER_FORMS:
        raise SpacerError("problem type", got=kind, expected=", ".join(_ANSWER_FORMS))
    # A picture or clip of anything has no floor to draw (SpaceR §4: the map guides
    # spatial reasoning).
    has_room = row.get("part") != "general"
    map_text = _map_text(grid_size, frame) if mode == "think_map" and has_room else ""
    if template is not None:
        return template.fill(
            question=row["question"],
            options="\n".join(row["options"] or ()),
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


def _map_text(grid_size, frame):
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


@dataclass(frozen=True)
class PromptStyle:
    """How questions are put: the arguments of ``user_text`` in one piece."""

    mode: str
    grid_size: int = 10
    frame: str | None = "aligned"
    template: "Template | None" = None

    def messages(self, row):
        """See ``messages``."""
        return messages(
            row, self.mode, self.grid_size, frame=self.frame, template=self.template
        )


def messages(row, mode, grid_size=10, *, frame="aligned", template=None):
    """One user turn in chat format: ``media_parts``, then ``user_text``."""
    text = user_text(row, mode, grid_size, frame=frame, template=template)
    content = [*media_parts(row), {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def media_parts(row):
    """What a row shows, as parts of a chat turn; none if it is text alone.

    Paths and ``room://`` addresses are passed on as they are; pixels are read only
    where they are needed.

    Parameters
    ----------
    row : dict
        With ``video`` (one path or address) or ``image`` (one path or a list of
        them); the other, or both, absent or ``None``.

    Raises
    ------
    SpacerError
        If it has both.
    """
    video, images = row.get("video"), row.get("image") or []
    if video and images:
        raise SpacerError(
            f"media of question {row.get('id')}",
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
        ``{answer_form}`` and ``{map}`` (the map's instructions, in mode
        ``think_map``; else empty). ``{{name}}`` stands for ``{name}``.
    answer_forms : dict
        ``{problem type: words}`` for ``{answer_form}``, in place of ours.

    Raises
    ------
    SpacerError
        For an unknown placeholder or problem type, or a text without the question.
    """

    text: str
    answer_forms: dict = field(default_factory=dict)

    def __post_init__(self):
        named = {match[2] for match in _PLACEHOLDER.finditer(self.text)} - {None}
        if "question" not in named or not named <= set(PLACEHOLDERS):
            raise SpacerError(
                "placeholders of a prompt template",
                got=", ".join(sorted(named)) or "none",
                expected="question, and of the others " + ", ".join(PLACEHOLDERS[1:]),
                remedy="double the braces to keep a {{name}} as it is",
            )
        unknown = sorted(set(self.answer_forms) - set(_ANSWER_FORMS))
        if unknown:
            raise SpacerError(
                "answer forms of a prompt template",
                got=", ".join(unknown),
                expected=", ".join(_ANSWER_FORMS),
            )

    def fill(self, **values):
        """The text with its placeholders replaced, once: values are never templates."""
        return _PLACEHOLDER.sub(
            lambda match: values[match[2]] if match[2] else f"{{{match[1]}}}", self.text
        )


def load_template(path):
    """Read a prompt template.

    Parameters
    ----------
    path : path
        Text; or ``.yaml`` with ``text`` and ``answer_forms`` (see ``Template``). One
        newline at the end belongs to the file, not to the prompt.

    Returns
    -------
    Template

    Raises
    ------
    SpacerError
        If the file cannot be read, or is no template.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = {"text": text}
        if path.suffix in (".yaml", ".yml"):
            content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpacerError(
            f"prompt template {path} cannot be read",
            got=error,
            expected="a text with {question}, or YAML",
        ) from error
    forms = content.get("answer_forms", {}) if isinstance(content, dict) else None
    if (
        not isinstance(forms, dict)
        or not set(content) <= {"text", "answer_forms"}
        or not isinstance(content.get("text"), str)
        or not all(isinstance(word, str) for pair in forms.items() for word in pair)
    ):
        raise SpacerError(
            f"prompt template {path}", expected="text, and answer_forms by problem type"
        )
    return Template(content["text"].removesuffix("\n"), forms)
