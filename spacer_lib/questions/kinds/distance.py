"""Distances of objects: absolute, and which of several is the closest."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear
from scipy.spatial import cKDTree

from spacer_lib.questions.askable import askable, unique_objects
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    NUMERICAL,
    Draft,
    Drafts,
    Rejection,
    listed_choice,
    shuffled,
)
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import (
    Box,
    Row,
    Undetermined,
    boxes_of,
    fitting,
    names_in,
    rounded,
    the_box,
)
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.geometry import box_distances_m, closest_distance_m
from spacer_lib.rooms.scene import ObjectInstance, Scene

_ABSOLUTE = "Measuring from the {where} of each object, what is the "
_BETWEEN = "distance between the {first} and the {second} (in meters)?"
ABSOLUTE_WORDS = {
    "spacer": f"{_ABSOLUTE}direct {_BETWEEN}",
    "vsibench": f"{_ABSOLUTE}{_BETWEEN}",
}
_OF_THESE = (
    "Measuring from the closest point of each object, which of these objects "
    "({options}) is the "
)
CLOSEST_WORDS = in_each_wording(_OF_THESE + "closest to the {target}?")
FARTHEST_WORDS = in_each_wording(_OF_THESE + "farthest from the {target}?")
FEW_UNIQUE = "fewer than two unique categories"
TOO_SMALL = "object too small"
TOUCH = "objects touch or nearly touch"
FEW_CATEGORIES = "fewer than {} categories"
TARGET_NOT_UNIQUE = "target is not unique"
DRAWN_BEFORE = "drawn before"
OPTION_TOUCHES = "nearest option touches the target"
NEARLY_EQUAL = "two options at nearly the same distance"


def _distances_m(
    instances: Sequence[ObjectInstance], rule: str
) -> dict[tuple[str, str], float]:
    """Categories of two instances, in both orders → metres by ``exact``, ``centers``.

    ``sampled`` distances take long: they are computed where they are asked for.
    """
    if rule == "sampled":
        return {}
    pairs = list(itertools.combinations(instances, 2))
    if rule == "exact":
        metres = box_distances_m(*zip(*pairs, strict=True)).tolist() if pairs else []
    else:
        metres = [length_m(a.centroid_m, b.centroid_m) for a, b in pairs]
    return {
        names: distance
        for (a, b), distance in zip(pairs, metres, strict=True)
        for names in ((a.category, b.category), (b.category, a.category))
    }


def length_m(first: Sequence[float], second: Sequence[float]) -> float:
    """Distance of two points, summed in their order."""
    return math.sqrt(sum((a - b) * (a - b) for a, b in zip(first, second, strict=True)))


def object_abs_distance(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Distance of two unique objects by ``Rules.abs_distance``, metres to 0.1.

    ``sampled`` is *official*.
    """
    kind = "object_abs_distance"
    where = "center" if rules.abs_distance == "centers" else "closest point"
    unique = unique_objects(scene, askable(scene, rules))
    if len(unique) < 2:
        yield Rejection(kind, FEW_UNIQUE)
    known = _distances_m(list(unique.values()), rules.abs_distance)
    for first, second in shuffled(itertools.combinations(sorted(unique), 2), rng):
        if rng.random() < 0.5:
            first, second = second, first
        pair = unique[first], unique[second]
        if min(max(i.axes_lengths_m) for i in pair) < rules.smallest_edge_m:
            yield Rejection(kind, TOO_SMALL)
            continue
        sampled = rules.abs_distance == "sampled"
        distance = closest_distance_m(*pair) if sampled else known[first, second]
        if distance < rules.abs_distance_min_m:
            yield Rejection(kind, TOUCH)
            continue
        question = ABSOLUTE_WORDS[rules.wording].format(
            where=where, first=first, second=second
        )
        answer = str(round(distance, 1))
        yield Draft(kind, NUMERICAL, question, None, answer, (first, second))


def _nearest_m(
    unique: Mapping[str, ObjectInstance],
    groups: Mapping[str, Sequence[ObjectInstance]],
) -> dict[tuple[str, str], float]:
    """(target, other category) → metres to the category's nearest instance."""
    pairs = [
        (target, instance)
        for target in unique.values()
        for group in groups.values()
        for instance in group
    ]
    if not pairs:
        return {}
    nearest_m: dict[tuple[str, str], float] = {}
    metres = box_distances_m(*zip(*pairs, strict=True)).tolist()
    for (target, instance), distance in zip(pairs, metres, strict=True):
        key = target.category, instance.category
        nearest_m[key] = min(distance, nearest_m.get(key, math.inf))
    return nearest_m


def _ranked(
    kind: str, scene: Scene, rng: np.random.Generator, rules: Rules, farthest: bool
) -> Drafts:
    """Which option is closest to a unique target, or farthest from it."""
    groups = askable(scene, rules)
    unique = unique_objects(scene, groups)
    size = rules.rel_distance_options
    if len(groups) < size + 1:
        yield Rejection(kind, FEW_CATEGORIES.format(size + 1))
        return
    near = _nearest_m(unique, groups)
    asked = set()
    for target in shuffled(groups, rng) * rules.rel_distance_rounds:
        if target not in unique:
            yield Rejection(kind, TARGET_NOT_UNIQUE)
            continue
        others = shuffled((c for c in groups if c != target), rng)
        # Disjoint draws of options, so that no two questions nearly repeat.
        for start in range(0, len(others) - size + 1, size):
            options = others[start : start + size]
            if (target, *sorted(options)) in asked:
                yield Rejection(kind, DRAWN_BEFORE)
                continue
            asked.add((target, *sorted(options)))
            distances = [near[target, option] for option in options]
            ranked = np.sort(distances)
            if ranked[0] < rules.rel_distance_margin_m:
                yield Rejection(kind, OPTION_TOUCHES)
                continue
            if np.diff(ranked).min() < rules.rel_distance_margin_m:
                yield Rejection(kind, NEARLY_EQUAL)
                continue
            which = np.argmax(distances) if farthest else np.argmin(distances)
            words = (FARTHEST_WORDS if farthest else CLOSEST_WORDS)[rules.wording]
            yield listed_choice(
                kind,
                words,
                options[int(which)],
                options,
                rng,
                rules.shuffle_options,
                target=target,
            )


def object_rel_distance(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Which option is closest to a unique target (*official*).

    The distance to an option is that of its nearest instance, between the closest
    points of the boxes.
    """
    return _ranked("object_rel_distance", scene, rng, rules, farthest=False)


def object_rel_distance_farthest(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Which option is farthest from a unique target; distances as for the closest."""
    return _ranked("object_rel_distance_farthest", scene, rng, rules, farthest=True)


def _gap_m(first: Box, second: Box) -> float:
    """Distance of two boxes: the least |c + A u - d - B v| with u, v in [-1/2, 1/2]."""
    A = np.hstack([first.edges.T, -second.edges.T])
    found = lsq_linear(A, second.center - first.center, (-0.5, 0.5), method="bvls")
    return math.sqrt(2 * found.cost)


def _grid(scene: Scene, category: str, rules: Rules) -> npt.NDArray[np.float64]:
    """(n, 3) points of the published grid, cropped as published.

    The published sums are rounded once for each product and sum: here by extended
    numbers, rounded back at each step.
    """
    box = the_box(scene, category, rules)
    (one,) = [i for i in scene.instances if i.category == category]
    if rules.boxes == "aligned":
        lengths, R = box.edges.diagonal(), np.eye(3)
    else:
        lengths, R = np.array(one.axes_lengths_m), np.array(one.axes).reshape(3, 3).T
    spacing = 0.05
    for _ in range(12):
        ticks = [np.linspace(-e / 2, e / 2, math.ceil(e / spacing)) for e in lengths]
        p = np.array(list(itertools.product(*ticks)), float).reshape(-1, 3)
        x, y, z = p[np.any(abs(p) > lengths / 4, axis=1)].astype(np.longdouble).T
        columns = []
        for row, middle in zip(R, box.center, strict=True):
            total = (x * row[0]).astype(float)
            total = (y * row[1] + total).astype(float)
            columns.append((z * row[2] + total).astype(float) + middle)
        world = np.stack(columns, axis=1)
        d = world - box.center
        along = (d[:, :1] * R[0] + d[:, 1:2] * R[1]) + d[:, 2:] * R[2]
        inside = np.all(abs(along) <= lengths / 2, axis=1)
        if inside.any():
            return world[inside]
        spacing /= 2
    raise Undetermined("no point of the published grid is inside the box")


def _measured(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Between centres, by least squares, or between points of the published grid."""
    names = names_in(ABSOLUTE_WORDS, row)
    both = names["first"], names["second"]
    first, second = (the_box(scene, name, rules) for name in both)
    if names["where"] == "center":
        return rounded(float(np.linalg.norm(first.center - second.center)), 1)
    if rules.abs_distance == "exact":
        return rounded(_gap_m(first, second), 1)
    grids = [_grid(scene, name, rules) for name in both]
    return rounded(float(cKDTree(grids[0]).query(grids[1])[0].min()), 1)


def _gaps_m(names: dict[str, str], scene: Scene, rules: Rules) -> dict[str, float]:
    """Option's category → gap between the target and its nearest box."""
    target = the_box(scene, names["target"], rules)
    return {
        name: min(_gap_m(target, box) for box in boxes_of(scene, name, rules))
        for name in names["options"].split(", ")
    }


def _closest(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Every option that no other undercuts."""
    gaps = _gaps_m(names_in(CLOSEST_WORDS, row), scene, rules)
    return fitting(row, [n for n in gaps if gaps[n] <= min(gaps.values()) + 1e-6])


def _farthest(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Every option that no other exceeds."""
    gaps = _gaps_m(names_in(FARTHEST_WORDS, row), scene, rules)
    return fitting(row, [n for n in gaps if gaps[n] >= max(gaps.values()) - 1e-6])


TYPES = (
    QuestionType(
        name="object_abs_distance",
        kind="object_abs_distance",
        words=ABSOLUTE_WORDS,
        generator=object_abs_distance,
        oracle=_measured,
        problem_type=NUMERICAL,
        unit="m",
        rejections=(FEW_UNIQUE, TOO_SMALL, TOUCH),
    ),
    *(
        QuestionType(
            name=generator.__name__,
            kind="object_rel_distance",
            words=words,
            generator=generator,
            oracle=oracle,
            problem_type=MULTIPLE_CHOICE,
            rejections=(
                FEW_CATEGORIES,
                TARGET_NOT_UNIQUE,
                DRAWN_BEFORE,
                OPTION_TOUCHES,
                NEARLY_EQUAL,
            ),
            lists_options=True,
        )
        for words, generator, oracle in (
            (CLOSEST_WORDS, object_rel_distance, _closest),
            (FARTHEST_WORDS, object_rel_distance_farthest, _farthest),
        )
    ),
)
