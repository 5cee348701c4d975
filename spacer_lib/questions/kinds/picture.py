"""What single pictures show: left and right, near and far, and which shows more."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from spacer_lib.questions.askable import askable, unique_objects
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    Drafts,
    Rejection,
    multiple_choice,
    order_choice,
    shuffled,
)
from spacer_lib.questions.kinds.counting import with_plural
from spacer_lib.questions.kinds.moments import NO_FOOTAGE, Moment, moments
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import Row, fitting, frame_at, names_in, the_box
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.scene import Scene

SIDE_WORDS = in_each_wording(
    "In the picture at second {moment} of the video, is the {first} to the left or to "
    "the right of the {second}?"
)
NEAR_WORDS = in_each_wording(
    "In the picture at second {moment} of the video, is the center of the {first} "
    "nearer to the camera or farther from it than the center of the {second}?"
)
ORDER_WORDS = in_each_wording(
    "In the picture at second {moment} of the video, what is the order of these "
    "objects by the distance of their centers from the camera, nearest first: "
    "{categories}?"
)
MORE_WORDS = in_each_wording(
    "Which picture shows more {objects}: the one at second {start} of the video or the "
    "one at second {end}?"
)
FEW_SEEN = "fewer than {} unique objects are seen"
NEARLY_EQUAL = "two centers at nearly the same place or distance"
HALF_SEEN = "an object is hardly seen, or its share is unknown"
AS_MANY = "both pictures show as many"


class _Sight(NamedTuple):
    """A unique object in a picture: its column, as a share, and its distance."""

    name: str
    across: float
    metres: float


def _sights(
    scene: Scene, rng: np.random.Generator, rules: Rules
) -> Iterable[tuple[Moment, list[_Sight]]]:
    """Moments in a drawn order, and what each shows with its centre inside."""
    unique = unique_objects(scene, askable(scene, rules))
    footage, names = scene.footage, sorted(unique)
    if footage is None or not names:
        return
    centers = np.array([unique[name].centroid_m for name in names])
    places = footage.project(centers)
    for moment in shuffled(moments(scene), rng):
        away = np.linalg.norm(centers - footage.centers_m[moment.number], axis=1)
        seen = []
        for name, (u, v, _), metres in zip(
            names, places[moment.number], away.tolist(), strict=True
        ):
            share = moment.visible.get(unique[name].instance_id, 0)
            inside = 0 <= u < footage.size[0] and 0 <= v < footage.size[1]
            if share >= rules.visible_share and inside:
                seen.append(_Sight(name, float(u) / footage.size[0], metres))
        yield moment, shuffled(seen, rng)


def _compared(
    kind: str,
    words: Mapping[str, str],
    sides: tuple[str, str],
    measure: Callable[[_Sight], float],
    margin: float,
    sights: Iterable[tuple[Moment, list[_Sight]]],
    rng: np.random.Generator,
    rules: Rules,
) -> Drafts:
    """Two objects of a picture: the first side, where the first has the less."""
    for moment, seen in sights:
        if len(seen) < 2:
            yield Rejection(kind, FEW_SEEN.format(2))
        for first, second in itertools.combinations(seen, 2):
            gap = measure(second) - measure(first)
            if abs(gap) < margin:
                yield Rejection(kind, NEARLY_EQUAL)
                continue
            answer, wrong = sides if gap > 0 else sides[::-1]
            names = first.name, second.name
            question = words[rules.wording].format(
                moment=moment.second, first=names[0], second=names[1]
            )
            yield multiple_choice(
                kind, question, answer, [wrong], names, rng, rules.shuffle_options
            )


def frame_left_right(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """On which side of another an object's centre is in one picture."""
    kind, sides, margin = "frame_left_right", ("left", "right"), rules.picture_margin
    sights = _sights(scene, rng, rules)
    yield from _compared(
        kind, SIDE_WORDS, sides, lambda one: one.across, margin, sights, rng, rules
    )
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)


def frame_near_far(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Whether an object's centre is nearer to the camera than another's."""
    kind, sides = "frame_near_far", ("nearer", "farther")
    sights, margin = _sights(scene, rng, rules), rules.rel_distance_margin_m
    yield from _compared(
        kind, NEAR_WORDS, sides, lambda one: one.metres, margin, sights, rng, rules
    )
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)


def frame_depth_order(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order of three objects by the distance of their centres from the camera."""
    kind = "frame_depth_order"
    for moment, seen in _sights(scene, rng, rules):
        if len(seen) < 3:
            yield Rejection(kind, FEW_SEEN.format(3))
        for three in itertools.combinations(seen, 3):
            metres = sorted(sight.metres for sight in three)
            if np.diff(metres).min() < rules.rel_distance_margin_m:
                yield Rejection(kind, NEARLY_EQUAL)
                continue
            names = [sight.name for sight in three]
            nearest_first = sorted(three, key=lambda sight: sight.metres)
            ordered = [sight.name for sight in nearest_first]
            question = ORDER_WORDS[rules.wording].format(
                moment=moment.second, categories=", ".join(names)
            )
            yield order_choice(
                kind, question, ordered, names, rng, rules.shuffle_options
            )
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)


def view_shows_more(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Which of two pictures shows more instances of a category."""
    kind = "view_shows_more"
    if scene.footage is None:
        yield Rejection(kind, NO_FOOTAGE)
    groups = askable(scene, rules)
    counts: dict[tuple[str, str], int | None] = {}
    every = moments(scene)
    for moment, (name, group) in itertools.product(every, groups.items()):
        shares = [moment.visible.get(one.instance_id, 0.001) for one in group]
        clear = all(s == 0 or s >= rules.visible_share for s in shares)
        counts[moment.second, name] = sum(s > 0 for s in shares) if clear else None
    pairs = itertools.product(itertools.combinations(every, 2), groups)
    for (start, end), name in shuffled(pairs, rng):
        one, two = counts[start.second, name], counts[end.second, name]
        if one is None or two is None:
            yield Rejection(kind, HALF_SEEN)
            continue
        if one == two:
            yield Rejection(kind, AS_MANY)
            continue
        answer, wrong = f"second {start.second}", f"second {end.second}"
        if two > one:
            answer, wrong = wrong, answer
        question = MORE_WORDS[rules.wording].format(
            objects=with_plural(name), start=start.second, end=end.second
        )
        yield multiple_choice(
            kind, question, answer, [wrong], (name,), rng, rules.shuffle_options
        )


# ---------------------------------------------------------------- the oracles


def _from_camera(scene: Scene, second: str, name: str, rules: Rules) -> np.ndarray:
    """(3,) centre of an object in the camera's frame: x right, y down, z forward."""
    center = the_box(scene, name, rules).center
    footage, number = frame_at(scene, second)
    return np.linalg.solve(footage.poses[number], np.append(center, 1))[:3]


def _slopes(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Sideways over forward: the larger slope is further to the right."""
    names = names_in(SIDE_WORDS, row)
    slopes = []
    for key in ("first", "second"):
        x, _, z = _from_camera(scene, names["moment"], names[key], rules)
        slopes.append(x / z)
    return fitting(row, ["left" if slopes[0] < slopes[1] else "right"])


def _which_is_nearer(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Lengths in the camera's frame."""
    names = names_in(NEAR_WORDS, row)
    first, second = (
        np.linalg.norm(_from_camera(scene, names["moment"], names[key], rules))
        for key in ("first", "second")
    )
    return fitting(row, ["nearer" if first < second else "farther"])


def _growing_sphere(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The order in which a sphere that grows around the camera meets the centres."""
    names = names_in(ORDER_WORDS, row)
    reached = sorted(
        (float(np.linalg.norm(_from_camera(scene, names["moment"], name, rules))), name)
        for name in names["categories"].split(", ")
    )
    return fitting(row, [", ".join(name for _, name in reached)])


def _looked_at(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Columns of the table of shares, added up picture by picture."""
    names = names_in(MORE_WORDS, row)
    category = names["objects"].removesuffix("(s)")
    mine = [one.category == category for one in scene.instances]
    footage, start = frame_at(scene, names["start"])
    _, end = frame_at(scene, names["end"])
    shown = (footage.visible[:, mine] >= rules.visible_share).sum(axis=1)
    if shown[start] == shown[end]:
        return ()
    more = "start" if shown[start] > shown[end] else "end"
    return fitting(row, [f"second {names[more]}"])


TYPES = tuple(
    QuestionType(
        name=generator.__name__,
        kind=generator.__name__,
        words=words,
        generator=generator,
        oracle=oracle,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_FOOTAGE, *rejections),
    )
    for words, generator, oracle, rejections in (
        (SIDE_WORDS, frame_left_right, _slopes, (FEW_SEEN, NEARLY_EQUAL)),
        (NEAR_WORDS, frame_near_far, _which_is_nearer, (FEW_SEEN, NEARLY_EQUAL)),
        (ORDER_WORDS, frame_depth_order, _growing_sphere, (FEW_SEEN, NEARLY_EQUAL)),
        (MORE_WORDS, view_shows_more, _looked_at, (HALF_SEEN, AS_MANY)),
    )
)
