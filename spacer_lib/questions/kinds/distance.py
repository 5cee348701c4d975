"""Distances of objects: absolute, and which of several is the closest."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from spacer_lib.questions.askable import askable, unique_objects
from spacer_lib.questions.drafts import (
    MULTIPLE_CHOICE,
    NUMERICAL,
    Draft,
    Drafts,
    Rejection,
    multiple_choice,
    shuffled,
)
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.geometry import box_distances_m, closest_distance_m
from spacer_lib.rooms.scene import ObjectInstance, Scene

_ABSOLUTE = "Measuring from the {where} of each object, what is the "
_BETWEEN = "distance between the {first} and the {second} (in meters)?"
ABSOLUTE_WORDS = {
    "spacer": f"{_ABSOLUTE}direct {_BETWEEN}",
    "vsibench": f"{_ABSOLUTE}{_BETWEEN}",
}
CLOSEST_WORDS = in_each_wording(
    "Measuring from the closest point of each object, which of these objects "
    "({options}) is the closest to the {target}?"
)
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


def object_rel_distance(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Which option is closest to a unique target (*official*).

    The distance to an option is that of its nearest instance, between the closest
    points of the boxes.
    """
    kind = "object_rel_distance"
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
            answer = options[int(np.argmin(distances))]
            listed = ", ".join(options)
            question = CLOSEST_WORDS[rules.wording].format(
                options=listed, target=target
            )
            wrong = [option for option in options if option != answer]
            made = multiple_choice(
                kind,
                question,
                answer,
                wrong,
                (target, *options),
                rng,
                rules.shuffle_options,
            )
            # The question lists its options in the order of their letters.
            shown = [text[3:] for text in made.options or ()]
            question = question.replace(listed, ", ".join(shown), 1)
            yield Draft(
                kind,
                MULTIPLE_CHOICE,
                question,
                made.options,
                made.ground_truth,
                (target, *shown),
            )


TYPES = (
    QuestionType(
        name="object_abs_distance",
        kind="object_abs_distance",
        words=ABSOLUTE_WORDS,
        generator=object_abs_distance,
        problem_type=NUMERICAL,
        unit="m",
        rejections=(FEW_UNIQUE, TOO_SMALL, TOUCH),
    ),
    QuestionType(
        name="object_rel_distance",
        kind="object_rel_distance",
        words=CLOSEST_WORDS,
        generator=object_rel_distance,
        problem_type=MULTIPLE_CHOICE,
        rejections=(
            FEW_CATEGORIES,
            TARGET_NOT_UNIQUE,
            DRAWN_BEFORE,
            OPTION_TOUCHES,
            NEARLY_EQUAL,
        ),
        lists_options=True,
    ),
)
