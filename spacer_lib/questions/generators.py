"""Seven kinds of question about a ``Scene``: a generator for each question type.

A generator goes through its candidates in an order drawn from ``rng``. For each it
yields a ``Draft``, or a ``Rejection`` with the reason. ``question_rows`` makes rows of
the drafts. Where VSI-Bench's formula is known (*official*), answers follow it.

Source: words in ``wording``; filters after VSI-Bench's generator.
"""

import dataclasses
import itertools
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from spacer_lib.errors import SpacerError, nearest
from spacer_lib.maps.grid import rasterize
from spacer_lib.maps.text import normal_category
from spacer_lib.questions.wording import WORDINGS, worded
from spacer_lib.rooms.area import AREA_RULES
from spacer_lib.rooms.geometry import box_distances_m, closest_distance_m, turn_deg
from spacer_lib.rooms.scene import BENCHMARK_AREA, ObjectInstance, Scene
from spacer_lib.rows import CognitiveMap, Question

T = TypeVar("T")

GENERATOR_VERSION = "3"
MULTIPLE_CHOICE, NUMERICAL = "multiple choice", "numerical"
OPTION_FREE = "option-free"  # multiple choice without letters, answered in words
LETTERS = string.ascii_uppercase  # of options
BOXES = ("oriented", "aligned")
DISTANCES = ("sampled", "exact", "centers")


@dataclass(frozen=True)
class Rules:
    """Thresholds of the generators; defaults are VSI-Bench's.

    Attributes
    ----------
    min_count : int
        Least number of instances for a counting question.
    abs_distance_min_m : float
        Least absolute distance.
    rel_distance_margin_m : float
        Least distance of the nearest option, and least difference between options.
    rel_distance_options : int
        Number of options.
    rel_distance_rounds : int
        How often new options are drawn for each target.
    direction_min_m, direction_max_m : float
        Allowed distance between any two of the three objects.
    direction_border_deg : float
        Least angle to the border of an answer's sector.
    order_gap_s : float
        Least time between first appearances.
    smallest_edge_m : float
        Least longest edge of an object in a numerical question.
    shuffle_options : bool
        Draw the position of the right option; otherwise sort options by their text.
    boxes : str
        ``oriented`` (VSI-Bench) or ``aligned`` (Spatial-R1): which box of an instance
        gives its size, distances and centre.
    abs_distance : str
        Between the closest of ``sampled`` points (VSI-Bench), ``exact`` between the
        closest points of the boxes, or between ``centers`` (vsGRPO).
    room_area : str
        Rule of the room's area, a key of ``rooms.area.AREA_RULES``.
    wording : str
        ``spacer`` or ``vsibench``; see ``wording``.
    excluded : tuple of str
        Categories that no question names, beside the structural ones.
    """

    min_count: int = 2
    abs_distance_min_m: float = 0.2
    rel_distance_margin_m: float = 0.15
    rel_distance_options: int = 4
    rel_distance_rounds: int = 1
    direction_min_m: float = 0.3
    direction_max_m: float = 5.0
    direction_border_deg: float = 10.0
    order_gap_s: float = 1.0
    smallest_edge_m: float = 0.15
    shuffle_options: bool = True
    boxes: str = "oriented"
    room_area: str = BENCHMARK_AREA
    abs_distance: str = "sampled"
    wording: str = "spacer"
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "excluded", tuple(self.excluded))
        for name, known in (
            ("boxes", BOXES),
            ("abs_distance", DISTANCES),
            ("room_area", tuple(AREA_RULES)),
            ("wording", WORDINGS),
        ):
            if getattr(self, name) not in known:
                raise SpacerError(
                    f"rule {name}",
                    kind="questions.unknown-rule-value",
                    got=getattr(self, name),
                    expected=" or ".join(known),
                )
        for name, value in vars(self).items():
            least = 0 if isinstance(value, float) else 1
            if type(value) in (int, float) and not value >= least:
                raise SpacerError(
                    f"rule {name}",
                    kind="questions.rule-too-small",
                    got=value,
                    expected=f"{least} or more",
                )


@dataclass(frozen=True)
class Draft:
    """What a generator fills in of a question: no id, scene, map or video yet.

    ``categories`` are the objects named, in the order of the question: position,
    facing and query for directions; target and then options for relative distance.
    """

    question_type: str
    problem_type: str
    question: str
    options: tuple[str, ...] | None
    ground_truth: str  # an option's letter, or a number
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Rejection:
    """Why a candidate is not asked."""

    question_type: str
    reason: str


Drafts = Iterator[Draft | Rejection]
DEFAULT_RULES = Rules()


def _choice(
    question_type: str,
    question: str,
    answer: str,
    wrong: Sequence[str],
    categories: Iterable[str],
    rng: np.random.Generator,
    shuffle: bool,
) -> Draft:
    texts = [answer, *wrong]
    if shuffle:
        texts = [texts[i] for i in rng.permutation(len(texts))]
    else:
        texts.sort()
    options = tuple(f"{LETTERS[i]}. {text}" for i, text in enumerate(texts))
    letter = LETTERS[texts.index(answer)]
    return Draft(
        question_type, MULTIPLE_CHOICE, question, options, letter, tuple(categories)
    )


def _shuffled(items: Iterable[T], rng: np.random.Generator) -> list[T]:
    items = list(items)
    return [items[i] for i in rng.permutation(len(items))]


def _groups(scene: Scene, rules: Rules) -> dict[str, list[ObjectInstance]]:
    """Category → instances that may be asked about, with the boxes of the rules."""
    groups = {
        category: instances
        for category, instances in scene.by_category().items()
        if category not in rules.excluded
    }
    if rules.boxes == "oriented":
        return groups
    return {name: [_aligned(i) for i in group] for name, group in groups.items()}


def _aligned(instance: ObjectInstance) -> ObjectInstance:
    low, high = np.array(instance.aabb_min_m), np.array(instance.aabb_max_m)
    return dataclasses.replace(
        instance,
        centroid_m=tuple((low + high) / 2),
        axes_lengths_m=tuple(high - low),
        axes=tuple(np.eye(3).ravel()),
    )


def _unique(
    scene: Scene, groups: Mapping[str, Sequence[ObjectInstance]]
) -> dict[str, ObjectInstance]:
    """Category → its only instance, where boxes and ``object_counts`` agree on one."""
    return {
        category: instances[0]
        for category, instances in groups.items()
        if len(instances) == 1 and scene.object_counts.get(category, 0) == 1
    }


def with_plural(category: str) -> str:
    """A category as counting questions name it.

    Examples
    --------
    >>> [with_plural(name) for name in ("chair", "blinds")]
    ['chair(s)', 'blinds']
    """
    plural = normal_category(category) != category.lower()
    return category if plural else f"{category}(s)"


def object_counting(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Number of instances of a category, from ``object_counts`` (*official*)."""
    kind = "object_counting"
    for category in _shuffled(_groups(scene, rules), rng):
        count = scene.object_counts.get(category, 0)
        if count < rules.min_count:
            yield Rejection(kind, f"fewer than {rules.min_count} instances")
            continue
        question = worded(rules.wording, kind, objects=with_plural(category))
        yield Draft(kind, NUMERICAL, question, None, str(count), (category,))


def object_size_estimation(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Longest edge of the oriented box in whole centimetres (*official*)."""
    kind = "object_size_estimation"
    groups = _groups(scene, rules)
    unique = _unique(scene, groups)
    for category in _shuffled(groups, rng):
        if category not in unique:
            yield Rejection(kind, "category is not unique")
            continue
        longest = max(unique[category].axes_lengths_m)
        if longest < rules.smallest_edge_m:
            yield Rejection(kind, "object too small")
            continue
        question = worded(rules.wording, kind, object=category)
        answer = str(round(longest * 100))
        yield Draft(kind, NUMERICAL, question, None, answer, (category,))


def room_size_estimation(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Area by the rule ``room_area`` in square metres, one decimal (*official*)."""
    kind = "room_size_estimation"
    area_m2 = scene.room_areas_m2.get(rules.room_area, 0.0)
    if round(area_m2, 1) <= 0:
        yield Rejection(kind, f"no area of the room by the rule {rules.room_area}")
        return
    question = worded(rules.wording, kind)
    answer = str(round(area_m2, 1))
    yield Draft(kind, NUMERICAL, question, None, answer, ())


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
        metres = [_length(a.centroid_m, b.centroid_m) for a, b in pairs]
    return {
        names: distance
        for (a, b), distance in zip(pairs, metres, strict=True)
        for names in ((a.category, b.category), (b.category, a.category))
    }


def _length(first: Sequence[float], second: Sequence[float]) -> float:
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
    unique = _unique(scene, _groups(scene, rules))
    if len(unique) < 2:
        yield Rejection(kind, "fewer than two unique categories")
    known = _distances_m(list(unique.values()), rules.abs_distance)
    for first, second in _shuffled(itertools.combinations(sorted(unique), 2), rng):
        if rng.random() < 0.5:
            first, second = second, first
        pair = unique[first], unique[second]
        if min(max(i.axes_lengths_m) for i in pair) < rules.smallest_edge_m:
            yield Rejection(kind, "object too small")
            continue
        sampled = rules.abs_distance == "sampled"
        distance = closest_distance_m(*pair) if sampled else known[first, second]
        if distance < rules.abs_distance_min_m:
            yield Rejection(kind, "objects touch or nearly touch")
            continue
        question = worded(rules.wording, kind, where=where, first=first, second=second)
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
    groups = _groups(scene, rules)
    unique = _unique(scene, groups)
    size = rules.rel_distance_options
    if len(groups) < size + 1:
        yield Rejection(kind, f"fewer than {size + 1} categories")
        return
    near = _nearest_m(unique, groups)
    asked = set()
    for target in _shuffled(groups, rng) * rules.rel_distance_rounds:
        if target not in unique:
            yield Rejection(kind, "target is not unique")
            continue
        others = _shuffled((c for c in groups if c != target), rng)
        # Disjoint draws of options, so that no two questions nearly repeat.
        for start in range(0, len(others) - size + 1, size):
            options = others[start : start + size]
            if (target, *sorted(options)) in asked:
                yield Rejection(kind, "drawn before")
                continue
            asked.add((target, *sorted(options)))
            distances = [near[target, option] for option in options]
            ranked = np.sort(distances)
            if ranked[0] < rules.rel_distance_margin_m:
                yield Rejection(kind, "nearest option touches the target")
                continue
            if np.diff(ranked).min() < rules.rel_distance_margin_m:
                yield Rejection(kind, "two options at nearly the same distance")
                continue
            answer = options[int(np.argmin(distances))]
            listed = ", ".join(options)
            question = worded(rules.wording, kind, options=listed, target=target)
            wrong = [option for option in options if option != answer]
            made = _choice(
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


# Difficulty → answers, and signed turns (degrees) at which the answer changes.
_DIRECTIONS: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "easy": (("left", "right"), (0.0, 180.0, -180.0)),
    "medium": (("back", "left", "right"), (0.0, 135.0, -135.0)),
    "hard": (
        ("back-left", "back-right", "front-left", "front-right"),
        (0.0, 90.0, -90.0, 180.0, -180.0),
    ),
}

DIRECTION_BORDERS_DEG = {name: parts[1] for name, parts in _DIRECTIONS.items()}


def direction_answer(turn: float, difficulty: str) -> str:
    """The answer to a signed turn in degrees, positive to the left (*official*)."""
    side = "left" if turn > 0 else "right"
    if difficulty == "medium":
        return "back" if abs(turn) >= 135 else side
    if difficulty == "hard":
        return f"{'front' if abs(turn) < 90 else 'back'}-{side}"
    return side


def _direction(
    difficulty: str, scene: Scene, rng: np.random.Generator, rules: Rules
) -> Drafts:
    kind = f"object_rel_direction_{difficulty}"
    words, borders = _DIRECTIONS[difficulty]
    unique = _unique(scene, _groups(scene, rules))
    if len(unique) < 3:
        yield Rejection(kind, "fewer than three unique categories")
    spots = {name: instance.centroid_m[:2] for name, instance in unique.items()}
    apart_m = {
        (a, b): _length(spots[a], spots[b]) for a, b in itertools.permutations(spots, 2)
    }
    for names in _shuffled(itertools.permutations(sorted(unique), 3), rng):
        gaps = [apart_m[pair] for pair in itertools.combinations(names, 2)]
        if min(gaps) < rules.direction_min_m:
            yield Rejection(kind, "objects too close together")
            continue
        if max(gaps) > rules.direction_max_m:
            yield Rejection(kind, "objects too far apart")
            continue
        turn = turn_deg(*(spots[name] for name in names))
        if min(abs(turn - border) for border in borders) < rules.direction_border_deg:
            yield Rejection(kind, "direction near the border of two answers")
            continue
        position, facing, query = names
        question = worded(
            rules.wording, kind, position=position, facing=facing, query=query
        )
        answer = direction_answer(turn, difficulty)
        wrong = [word for word in words if word != answer]
        yield _choice(kind, question, answer, wrong, names, rng, rules.shuffle_options)


def object_rel_direction_easy(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Left or right of the orienting object."""
    return _direction("easy", scene, rng, rules)


def object_rel_direction_medium(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Left, right or back."""
    return _direction("medium", scene, rng, rules)


def object_rel_direction_hard(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """One of four quadrants."""
    return _direction("hard", scene, rng, rules)


def obj_appearance_order(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Order in which four categories are first seen in the video."""
    kind = "obj_appearance_order"
    first_seen: dict[str, float] = {}
    if not scene.fps:
        yield Rejection(kind, "no video")
        return
    for category, instances in _groups(scene, rules).items():
        seen = [i.first_seen_frame for i in instances if i.first_seen_frame is not None]
        if not seen:
            yield Rejection(kind, "first appearance unknown")
            continue
        first_seen[category] = min(seen) / scene.fps
    if len(first_seen) < 4:
        yield Rejection(kind, "fewer than four categories with a first appearance")
        return
    for four in _shuffled(itertools.combinations(first_seen, 4), rng):
        chosen = _shuffled(four, rng)
        times = sorted(first_seen[name] for name in chosen)
        if np.diff(times).min() < rules.order_gap_s:
            yield Rejection(kind, "two first appearances at nearly the same time")
            continue
        answer = ", ".join(sorted(chosen, key=first_seen.__getitem__))
        orders = [", ".join(order) for order in itertools.permutations(chosen)]
        wrong = [o for o in _shuffled(orders, rng) if o != answer][:3]
        question = worded(rules.wording, kind, categories=", ".join(chosen))
        yield _choice(kind, question, answer, wrong, chosen, rng, rules.shuffle_options)


GENERATORS: dict[str, Callable[[Scene, np.random.Generator, Rules], Drafts]] = {
    "object_counting": object_counting,
    "object_size_estimation": object_size_estimation,
    "room_size_estimation": room_size_estimation,
    "object_abs_distance": object_abs_distance,
    "object_rel_distance": object_rel_distance,
    "object_rel_direction_easy": object_rel_direction_easy,
    "object_rel_direction_medium": object_rel_direction_medium,
    "object_rel_direction_hard": object_rel_direction_hard,
    "obj_appearance_order": obj_appearance_order,
}
_VARIANT = re.compile(
    r"(object_rel_direction|object_rel_distance|object_counting|room_size_estimation)"
    r"_(?:(?:forward_|backward_)?(?:easy|medium|hard)|closest|farthest|single|multiple)"
)


def task_kind(question_type: str) -> str:
    """The kind of a question type: the three difficulties of direction are one kind.

    So are the variants that ReVSI asks.

    Examples
    --------
    >>> task_kind("object_rel_direction_hard"), task_kind("object_counting_single")
    ('object_rel_direction', 'object_counting')
    """
    variant = _VARIANT.fullmatch(question_type)
    return variant[1] if variant else question_type


def question_rows(
    scene: Scene,
    seed: int,
    *,
    per_task: int | Mapping[str, int] = 3,
    rules: Rules = DEFAULT_RULES,
    tasks: Iterable[str] | None = None,
    grid_size: int = 10,
) -> tuple[list[Question], Counter[tuple[str, str]]]:
    """The questions about one scene, at most ``per_task`` of each type.

    Random choices depend on seed, scene id and question type, and not on what other
    scenes and types are asked.

    Parameters
    ----------
    scene : Scene
    seed : int
    per_task : int or mapping
        Limit of every type, or question type → limit.
    rules : Rules
    tasks : iterable of str, optional
        Question types to make; all nine by default.
    grid_size : int
        M of the true map.

    Returns
    -------
    rows : list of Question
    rejections : Counter
        (question type, reason) → candidates rejected before the limit was reached.

    Raises
    ------
    SpacerError
        For an unknown question type.
    """
    cells = {
        name: [list(cell) for cell in spots]
        for name, spots in rasterize(scene, grid_size).items()
    }
    rows, rejections = [], Counter[tuple[str, str]]()
    for task in tasks or GENERATORS:
        if task not in GENERATORS:
            raise SpacerError(
                "question type",
                kind="questions.unknown-type",
                got=task,
                remedy=nearest(task, GENERATORS),
            )
        limit = per_task if isinstance(per_task, int) else per_task.get(task, 0)
        key = [seed, *scene.scene_id.encode(), 0, *task.encode()]
        made = 0
        for result in GENERATORS[task](scene, np.random.default_rng(key), rules):
            if made >= limit:
                break
            if isinstance(result, Rejection):
                rejections[task, result.reason] += 1
                continue
            rows.append(_row(scene, cells, result, made))
            made += 1
    return rows, rejections


def _row(scene: Scene, cells: CognitiveMap, draft: Draft, number: int) -> Question:
    return {
        "id": f"{scene.scene_id}:{draft.question_type}:{number}",
        "dataset": scene.dataset,
        "scene_name": scene.scene_id,
        "question_type": draft.question_type,
        "problem_type": draft.problem_type,
        "question": draft.question,
        "options": list(draft.options) if draft.options else None,
        "ground_truth": draft.ground_truth,
        "categories": list(draft.categories),
        "map": {name: [list(cell) for cell in spots] for name, spots in cells.items()},
        "video": scene.video_path,
    }
