"""When categories are first seen in the video."""

import itertools
from collections.abc import Collection, Generator, Iterable

import numpy as np

from spacer_lib.questions.askable import askable
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    Drafts,
    Rejection,
    multiple_choice,
    order_choice,
    shuffled,
)
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import Row, Undetermined, fitting, names_in
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.scene import Scene

ORDER_WORDS = in_each_wording(
    "What will be the first-time appearance order of the following categories in the "
    "video: {categories}?"
)
BEFORE_WORDS = in_each_wording(
    "While the video plays, does the first {first} come into view before or after the "
    "first {second}?"
)
_IN_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
NO_VIDEO = "no video"
UNKNOWN = "first appearance unknown"
FEW_SEEN = "fewer than {} categories with a first appearance"
NEARLY_AT_ONCE = "two first appearances at nearly the same time"


def _order(
    kind: str, size: int, scene: Scene, rng: np.random.Generator, rules: Rules
) -> Drafts:
    first_seen = yield from _first_seen_s(kind, scene, rules)
    if len(first_seen) < size:
        if scene.fps:
            yield Rejection(kind, FEW_SEEN.format(_IN_WORDS[size]))
        return
    for group in _groups_of(size, first_seen, rng):
        chosen = shuffled(group, rng)
        times = sorted(first_seen[name] for name in chosen)
        if np.diff(times).min() < rules.order_gap_s:
            yield Rejection(kind, NEARLY_AT_ONCE)
            continue
        ordered = sorted(chosen, key=first_seen.__getitem__)
        question = ORDER_WORDS[rules.wording].format(categories=", ".join(chosen))
        yield order_choice(kind, question, ordered, chosen, rng, rules.shuffle_options)


def _first_seen_s(
    kind: str, scene: Scene, rules: Rules
) -> Generator[Rejection, None, dict[str, float]]:
    """Yields rejections; returns category → second of its first appearance."""
    first_seen: dict[str, float] = {}
    if not scene.fps:
        yield Rejection(kind, NO_VIDEO)
        return first_seen
    for category, instances in askable(scene, rules).items():
        seen = [i.first_seen_frame for i in instances if i.first_seen_frame is not None]
        if not seen:
            yield Rejection(kind, UNKNOWN)
            continue
        first_seen[category] = min(seen) / scene.fps
    return first_seen


def _groups_of(
    size: int, names: Collection[str], rng: np.random.Generator
) -> Iterable[tuple[str, ...]]:
    """All groups in a drawn order; of large groups, 500 draws without a repeat."""
    if size <= 4:
        yield from shuffled(itertools.combinations(names, size), rng)
        return
    drawn = set()
    for _ in range(500):
        group = tuple(sorted(shuffled(names, rng)[:size]))
        if group not in drawn:
            drawn.add(group)
            yield group


def obj_appearance_order(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order in which four categories are first seen in the video."""
    return _order("obj_appearance_order", 4, scene, rng, rules)


def obj_appearance_order_2(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order of two categories."""
    return _order("obj_appearance_order_2", 2, scene, rng, rules)


def obj_appearance_order_3(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order of three categories."""
    return _order("obj_appearance_order_3", 3, scene, rng, rules)


def obj_appearance_order_5(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order of five categories."""
    return _order("obj_appearance_order_5", 5, scene, rng, rules)


def obj_appearance_order_6(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order of six categories."""
    return _order("obj_appearance_order_6", 6, scene, rng, rules)


def appearance_before_after(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Whether one category is first seen before or after another."""
    kind = "appearance_before_after"
    first_seen = yield from _first_seen_s(kind, scene, rules)
    if len(first_seen) < 2:
        yield Rejection(kind, FEW_SEEN.format("two"))
    for pair in shuffled(itertools.combinations(first_seen, 2), rng):
        first, second = shuffled(pair, rng)
        lead_s = first_seen[second] - first_seen[first]
        if abs(lead_s) < rules.order_gap_s:
            yield Rejection(kind, NEARLY_AT_ONCE)
            continue
        answer, wrong = ("before", "after") if lead_s > 0 else ("after", "before")
        question = BEFORE_WORDS[rules.wording].format(first=first, second=second)
        names = first, second
        yield multiple_choice(
            kind, question, answer, [wrong], names, rng, rules.shuffle_options
        )


def _film(scene: Scene, named: Collection[str]) -> list[str]:
    """The named categories as they come into the picture, frame after frame."""
    frames: dict[int, list[str]] = {}
    for one in scene.instances:
        if one.first_seen_frame is not None and one.category in named:
            frames.setdefault(one.first_seen_frame, []).append(one.category)
    if not frames:
        raise Undetermined("first appearances are not in the metadata")
    seen: list[str] = []
    for _, arrived in sorted(frames.items()):
        new = sorted(set(arrived) - set(seen))
        if len(new) > 1:
            raise Undetermined("two categories are first seen in the same frame")
        seen += new
    if len(seen) < len(named):
        raise Undetermined("a category is never seen")
    return seen


def _played_back(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The order in which the categories come while the video plays."""
    named = names_in(ORDER_WORDS, row)["categories"].split(", ")
    return fitting(row, [", ".join(_film(scene, named))])


def _earlier_or_later(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Which of the two the video shows while the other has not come yet."""
    names = names_in(BEFORE_WORDS, row)
    shown = _film(scene, list(names.values()))
    return fitting(row, ["before" if shown[0] == names["first"] else "after"])


TYPES = (
    *(
        QuestionType(
            name=generator.__name__,
            kind="obj_appearance_order",
            words=ORDER_WORDS,
            generator=generator,
            oracle=_played_back,
            problem_type=MULTIPLE_CHOICE,
            rejections=(NO_VIDEO, UNKNOWN, FEW_SEEN, NEARLY_AT_ONCE),
            by_frames=True,
        )
        for generator in (
            obj_appearance_order,
            obj_appearance_order_2,
            obj_appearance_order_3,
            obj_appearance_order_5,
            obj_appearance_order_6,
        )
    ),
    QuestionType(
        name="appearance_before_after",
        kind="appearance_before_after",
        words=BEFORE_WORDS,
        generator=appearance_before_after,
        oracle=_earlier_or_later,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_VIDEO, UNKNOWN, FEW_SEEN, NEARLY_AT_ONCE),
        by_frames=True,
    ),
)
