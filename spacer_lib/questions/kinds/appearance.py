"""When categories are first seen in the video."""

import itertools
from collections.abc import Collection

import numpy as np

from spacer_lib.questions.askable import askable
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    Drafts,
    Rejection,
    multiple_choice,
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
NO_VIDEO = "no video"
UNKNOWN = "first appearance unknown"
FEW_SEEN = "fewer than four categories with a first appearance"
NEARLY_AT_ONCE = "two first appearances at nearly the same time"


def obj_appearance_order(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order in which four categories are first seen in the video."""
    kind = "obj_appearance_order"
    first_seen: dict[str, float] = {}
    if not scene.fps:
        yield Rejection(kind, NO_VIDEO)
        return
    for category, instances in askable(scene, rules).items():
        seen = [i.first_seen_frame for i in instances if i.first_seen_frame is not None]
        if not seen:
            yield Rejection(kind, UNKNOWN)
            continue
        first_seen[category] = min(seen) / scene.fps
    if len(first_seen) < 4:
        yield Rejection(kind, FEW_SEEN)
        return
    for four in shuffled(itertools.combinations(first_seen, 4), rng):
        chosen = shuffled(four, rng)
        times = sorted(first_seen[name] for name in chosen)
        if np.diff(times).min() < rules.order_gap_s:
            yield Rejection(kind, NEARLY_AT_ONCE)
            continue
        answer = ", ".join(sorted(chosen, key=first_seen.__getitem__))
        orders = [", ".join(order) for order in itertools.permutations(chosen)]
        wrong = [o for o in shuffled(orders, rng) if o != answer][:3]
        question = ORDER_WORDS[rules.wording].format(categories=", ".join(chosen))
        yield multiple_choice(
            kind, question, answer, wrong, chosen, rng, rules.shuffle_options
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


TYPES = (
    QuestionType(
        name="obj_appearance_order",
        kind="obj_appearance_order",
        words=ORDER_WORDS,
        generator=obj_appearance_order,
        oracle=_played_back,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_VIDEO, UNKNOWN, FEW_SEEN, NEARLY_AT_ONCE),
    ),
)
