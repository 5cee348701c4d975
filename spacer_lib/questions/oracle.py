"""What oracles share: names read off a question, boxes, options, rounding.

An oracle derives the answer to a question a second time, from the question's words and
the scene. It calls nothing that the generator calls, so that an error in one of the two
shows as a disagreement.
"""

import functools
import math
import re
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spacer_lib.questions.rules import Rules
from spacer_lib.rooms.footage import Footage
from spacer_lib.rooms.scene import Scene

Row = Mapping[str, Any]  # of the official file, or of ours
# The answers that fit: one; for numbers more, where rounding decides between them.
Oracle = Callable[[Row, Scene, Rules], tuple[str, ...]]


class Undetermined(Exception):
    """The metadata do not determine this row's answer; the message says why."""


@functools.cache
def _pattern(words: str) -> re.Pattern[str]:
    """What a question of these words looks like: a group for each name."""
    seen, parts = set[str](), []
    for text, name, _, _ in string.Formatter().parse(words):
        parts.append(re.escape(text))
        if name:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^?]+?)")
            seen.add(name)
    return re.compile("".join(parts))


def names_in(words: Mapping[str, str], row: Row) -> dict[str, str]:
    """The names of objects in a question; ``words`` as in ``QuestionType.words``.

    Raises
    ------
    Undetermined
        If the question has other words.

    Examples
    --------
    >>> names_in({"spacer": "Is the {a} red?"}, {"question": "Is the sofa red?"})
    {'a': 'sofa'}
    """
    for text in words.values():
        if found := _pattern(text).fullmatch(row["question"]):
            return found.groupdict()
    raise Undetermined("the question's words are not the template's")


class Box(NamedTuple):
    """A box: ``center`` (3,), and ``edges`` (3, 3), whose rows are its edge vectors."""

    center: npt.NDArray[np.float64]
    edges: npt.NDArray[np.float64]


def boxes_of(scene: Scene, category: str, rules: Rules) -> list[Box]:
    """The boxes of a category, metres, by ``Rules.boxes``.

    Raises
    ------
    Undetermined
        If there is none.
    """
    found = []
    for one in scene.instances:
        if one.category == category and rules.boxes == "aligned":
            low, high = np.array(one.aabb_min_m), np.array(one.aabb_max_m)
            found.append(Box((low + high) / 2, np.diag(high - low)))
        elif one.category == category:
            unit = np.array(one.axes).reshape(3, 3)
            edges = np.array(one.axes_lengths_m)[:, None] * unit
            found.append(Box(np.array(one.centroid_m), edges))
    if not found:
        raise Undetermined("no box of the category in the metadata")
    return found


def the_box(scene: Scene, category: str, rules: Rules) -> Box:
    """The only box of a category.

    Raises
    ------
    Undetermined
        If there is none, or there are several.
    """
    found = boxes_of(scene, category, rules)
    if len(found) > 1:
        raise Undetermined("several boxes of a category that should be alone")
    return found[0]


def frame_at(scene: Scene, second: str) -> tuple[Footage, int]:
    """A scene's footage, and in it the position of the frame at a question's second.

    Raises
    ------
    Undetermined
        If there are no poses, or no kept frame at that second.
    """
    if scene.footage is None or not scene.fps:
        raise Undetermined("no camera poses in the metadata")
    seconds = [f"{frame / scene.fps:.2f}" for frame in scene.footage.frames]
    if second not in seconds:
        raise Undetermined("no kept frame at this second")
    return scene.footage, seconds.index(second)


def option_texts(row: Row) -> dict[str, str]:
    """Letter → words of each option; empty where a question has no options.

    Raises
    ------
    Undetermined
        If there are options without letters.
    """
    options = row.get("options") or ()
    if not all(re.match(r"[A-Z]\. ", str(option)) for option in options):
        raise Undetermined("no lettered options")
    return {option[0]: option[3:] for option in options}


def fitting(row: Row, texts: Collection[str]) -> tuple[str, ...]:
    """The letters of the options that are among the texts; without options, these."""
    options = option_texts(row)
    if not options:
        return tuple(texts)
    return tuple(letter for letter, text in options.items() if text in texts)


def rounded(value: float, decimals: int, slack: float = 1e-6) -> tuple[str, ...]:
    """A number as answers spell it; two where it is within ``slack`` of a border.

    Examples
    --------
    >>> rounded(1.849, 1), rounded(1.85, 1), rounded(30.2, 0)
    (('1.8',), ('1.8', '1.9'), ('30',))
    """
    step = 10**decimals
    low, high = (math.floor((value + s) * step + 0.5) for s in (-slack, slack))
    every = range(low, high + 1)
    return tuple(str(n) if decimals == 0 else str(n / step) for n in every)
