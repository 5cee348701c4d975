"""Seven kinds of question about a ``Scene``, one lazy generator each.

A generator walks its candidates in an order drawn from ``rng`` and yields, for each,
a ``Question`` or a ``Rejection`` that names why not; nothing is dropped in silence.
Answers follow VSI-Bench's official ground truth where the formula is known.

Source: wording after SpaceR Figure 5; filters after VSI-Bench's generator.
"""

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np

from spacer_lib.errors import SpacerError
from spacer_lib.maps.text import normal_category
from spacer_lib.rooms.geometry import box_distance_m, closest_distance_m, turn_deg

GENERATOR_VERSION = "2"
MULTIPLE_CHOICE, NUMERICAL = "multiple choice", "numerical"
OPTION_FREE = "option-free"  # a choice without letters, answered in words
BOXES = ("oriented", "aligned")
DISTANCES = ("closest", "centers")


@dataclass(frozen=True)
class Rules:
    """Thresholds of the generators; defaults are VSI-Bench's.

    Attributes
    ----------
    min_count : int
        Least number of instances for a counting question.
    abs_distance_min_m : float
        Absolute distances below this are dropped.
    rel_distance_margin_m : float
        Nearest option at least this far, and options at least this far apart.
    rel_distance_options : int
        Number of options.
    rel_distance_rounds : int
        How often each target meets a fresh draw of options.
    direction_min_m, direction_max_m : float
        Allowed distance between any two of the three objects.
    direction_border_deg : float
        Least angle to the border of an answer's sector.
    order_gap_s : float
        Least time between first appearances.
    smallest_edge_m : float
        Objects whose longest edge is shorter are too small for numerical questions.
    shuffle_options : bool
        Draw the right option's position; otherwise options stand in alphabetical order.
    boxes : str
        ``oriented`` (VSI-Bench) or ``aligned``: which box of an instance gives sizes,
        distances and centres. Spatial-R1: aligned.
    abs_distance : str
        ``closest`` points (VSI-Bench) or ``centers`` (vsGRPO).
    excluded : tuple of str
        Categories that no question may name, beside the structural ones.
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
    abs_distance: str = "closest"
    excluded: tuple = ()

    def __post_init__(self):
        object.__setattr__(self, "excluded", tuple(self.excluded))
        for name, known in (("boxes", BOXES), ("abs_distance", DISTANCES)):
            if getattr(self, name) not in known:
                raise SpacerError(
                    f"rule {name}", got=getattr(self, name), expected=" or ".join(known)
                )
        for name in ("min_count", "rel_distance_options", "rel_distance_rounds"):
            if getattr(self, name) < 1:
                raise SpacerError(f"rule {name}", got=getattr(self, name), expected=1)


@dataclass(frozen=True)
class Question:
    """One question with its checkable answer.

    ``ground_truth`` is an option letter or a number as text; ``categories`` are the
    objects named, in the order of the question (positioning, orienting, querying for
    directions; target first, then options, for relative distance).
    """

    question_type: str
    problem_type: str
    question: str
    options: tuple | None
    ground_truth: str
    categories: tuple


@dataclass(frozen=True)
class Rejection:
    """A candidate that did not become a question, and why."""

    question_type: str
    reason: str


def _choice(question_type, question, answer, wrong, categories, rng, shuffle):
    texts = [answer, *wrong]
    if shuffle:
        texts = [texts[i] for i in rng.permutation(len(texts))]
    else:
        texts.sort()
    options = tuple(f"{chr(65 + i)}. {text}" for i, text in enumerate(texts))
    letter = chr(65 + texts.index(answer))
    return Question(
        question_type, MULTIPLE_CHOICE, question, options, letter, tuple(categories)
    )


def _shuffled(items, rng):
    items = list(items)
    return [items[i] for i in rng.permutation(len(items))]


def _groups(scene, rules):
    """``{category: [instances]}`` that may be asked about, boxes as ruled."""
    groups = {
        category: instances
        for category, instances in scene.by_category().items()
        if category not in rules.excluded
    }
    if rules.boxes == "oriented":
        return groups
    return {name: [_aligned(i) for i in group] for name, group in groups.items()}


def _aligned(instance):
    low, high = np.array(instance.aabb_min_m), np.array(instance.aabb_max_m)
    return dataclasses.replace(
        instance,
        centroid_m=(low + high) / 2,
        axes_lengths_m=high - low,
        axes=np.eye(3).ravel(),
    )


def _unique(scene, groups):
    """{category: its only instance}, also checked against ``object_counts``."""
    return {
        category: instances[0]
        for category, instances in groups.items()
        if len(instances) == 1 and scene.object_counts.get(category, 0) == 1
    }


def with_plural(category):
    """``chair`` → ``chair(s)``; a name that is a plural already stays: ``blinds``."""
    plural = normal_category(category) != category.lower()
    return category if plural else f"{category}(s)"


def object_counting(scene, rng, rules=Rules()):
    """How many of a category are in the room (``object_counts``, *official*)."""
    kind = "object_counting"
    for category in _shuffled(_groups(scene, rules), rng):
        count = scene.object_counts.get(category, 0)
        if count < rules.min_count:
            yield Rejection(kind, f"fewer than {rules.min_count} instances")
            continue
        question = f"How many {with_plural(category)} are in this room?"
        yield Question(kind, NUMERICAL, question, None, str(count), (category,))


def object_size_estimation(scene, rng, rules=Rules()):
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
        question = (
            "What is the length of the longest dimension (length, width, or height) "
            f"of the {category}, measured in centimeters?"
        )
        answer = str(round(longest * 100))
        yield Question(kind, NUMERICAL, question, None, answer, (category,))


def room_size_estimation(scene, rng, rules=Rules()):
    """Floor area in square metres, one decimal (*official*)."""
    kind = "room_size_estimation"
    if round(scene.room_size_m2, 1) <= 0:
        yield Rejection(kind, "room size unknown")
        return
    question = (
        "What is the size of this room (in square meters)? If multiple rooms are "
        "shown, estimate the size of the combined space."
    )
    answer = str(round(scene.room_size_m2, 1))
    yield Question(kind, NUMERICAL, question, None, answer, ())


def object_abs_distance(scene, rng, rules=Rules()):
    """Closest-point distance of two unique objects, metres to 0.1 (*official*)."""
    kind = "object_abs_distance"
    unique = _unique(scene, _groups(scene, rules))
    if len(unique) < 2:
        yield Rejection(kind, "fewer than two unique categories")
    for first, second in _shuffled(itertools.combinations(sorted(unique), 2), rng):
        if rng.random() < 0.5:
            first, second = second, first
        pair = unique[first], unique[second]
        if min(max(i.axes_lengths_m) for i in pair) < rules.smallest_edge_m:
            yield Rejection(kind, "object too small")
            continue
        if rules.abs_distance == "closest":
            distance, where = closest_distance_m(*pair), "closest point"
        else:
            distance = float(np.linalg.norm(np.subtract(*(i.centroid_m for i in pair))))
            where = "center"
        if distance < rules.abs_distance_min_m:
            yield Rejection(kind, "objects touch or nearly touch")
            continue
        question = (
            f"Measuring from the {where} of each object, what is the direct "
            f"distance between the {first} and the {second} (in meters)?"
        )
        answer = str(round(distance, 1))
        yield Question(kind, NUMERICAL, question, None, answer, (first, second))


def object_rel_distance(scene, rng, rules=Rules()):
    """Which option is closest to a unique target (closest points of
    the oriented boxes, *official*)."""
    kind = "object_rel_distance"
    groups = _groups(scene, rules)
    unique = _unique(scene, groups)
    size = rules.rel_distance_options
    if len(groups) < size + 1:
        yield Rejection(kind, f"fewer than {size + 1} categories")
        return
    asked = set()
    for target in _shuffled(groups, rng) * rules.rel_distance_rounds:
        if target not in unique:
            yield Rejection(kind, "target is not unique")
            continue
        others = _shuffled((c for c in groups if c != target), rng)
        # One draw of options per target and start: many targets, few near-repeats.
        for start in range(0, len(others) - size + 1, size):
            options = others[start : start + size]
            if (target, *sorted(options)) in asked:
                yield Rejection(kind, "drawn before")
                continue
            asked.add((target, *sorted(options)))
            distances = [
                min(box_distance_m(unique[target], i) for i in groups[option])
                for option in options
            ]
            ranked = np.sort(distances)
            if ranked[0] < rules.rel_distance_margin_m:
                yield Rejection(kind, "nearest option touches the target")
                continue
            if np.diff(ranked).min() < rules.rel_distance_margin_m:
                yield Rejection(kind, "two options at nearly the same distance")
                continue
            answer = options[int(np.argmin(distances))]
            question = (
                "Measuring from the closest point of each object, which of these "
                f"objects ({', '.join(options)}) is the closest to the {target}?"
            )
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
            # The letters follow the shuffled options; so does the question's list.
            shown = [text[3:] for text in made.options]
            question = question.replace(", ".join(options), ", ".join(shown), 1)
            yield Question(
                kind,
                MULTIPLE_CHOICE,
                question,
                made.options,
                made.ground_truth,
                (target, *shown),
            )


_DIRECTIONS = {
    "easy": (
        "is the {query} to the left or the right of the {facing}?",
        ("left", "right"),
        (0.0, 180.0, -180.0),
    ),
    "medium": (
        "is the {query} to my left, right, or back? An object is to my back if I would "
        "have to turn at least 135 degrees in order to face it.",
        ("back", "left", "right"),
        (0.0, 135.0, -135.0),
    ),
    "hard": (
        "is the {query} to my front-left, front-right, back-left, or back-right? "
        "Directions refer to the quadrants of a Cartesian plane (assuming I am at the "
        "origin and facing the positive y-axis).",
        ("back-left", "back-right", "front-left", "front-right"),
        (0.0, 90.0, -90.0, 180.0, -180.0),
    ),
}


# Signed turns, in degrees, at which an answer changes.
DIRECTION_BORDERS_DEG = {name: parts[2] for name, parts in _DIRECTIONS.items()}


def direction_answer(turn, difficulty):
    """Signed turn in degrees (left positive) → the answer's words (*official*)."""
    side = "left" if turn > 0 else "right"
    if difficulty == "medium":
        return "back" if abs(turn) >= 135 else side
    if difficulty == "hard":
        return f"{'front' if abs(turn) < 90 else 'back'}-{side}"
    return side


def _direction(difficulty, scene, rng, rules):
    kind = f"object_rel_direction_{difficulty}"
    tail, words, borders = _DIRECTIONS[difficulty]
    unique = _unique(scene, _groups(scene, rules))
    if len(unique) < 3:
        yield Rejection(kind, "fewer than three unique categories")
    for names in _shuffled(itertools.permutations(sorted(unique), 3), rng):
        spots = [np.array(unique[name].centroid_m[:2]) for name in names]
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(spots, 2)]
        if min(gaps) < rules.direction_min_m:
            yield Rejection(kind, "objects too close together")
            continue
        if max(gaps) > rules.direction_max_m:
            yield Rejection(kind, "objects too far apart")
            continue
        turn = turn_deg(*spots)
        if min(abs(turn - border) for border in borders) < rules.direction_border_deg:
            yield Rejection(kind, "direction near the border of two answers")
            continue
        position, facing, query = names
        question = (
            f"If I am standing by the {position} and facing the {facing}, "
            + tail.format(query=query, facing=facing)
        )
        answer = direction_answer(turn, difficulty)
        wrong = [word for word in words if word != answer]
        yield _choice(kind, question, answer, wrong, names, rng, rules.shuffle_options)


def object_rel_direction_easy(scene, rng, rules=Rules()):
    """Left or right of the orienting object."""
    return _direction("easy", scene, rng, rules)


def object_rel_direction_medium(scene, rng, rules=Rules()):
    """Left, right or back."""
    return _direction("medium", scene, rng, rules)


def object_rel_direction_hard(scene, rng, rules=Rules()):
    """One of four quadrants."""
    return _direction("hard", scene, rng, rules)


def obj_appearance_order(scene, rng, rules=Rules()):
    """Order in which four categories are first seen in the video."""
    kind = "obj_appearance_order"
    first_seen = {}
    if not scene.fps:
        yield Rejection(kind, "no video")
        return
    for category, instances in _groups(scene, rules).items():
        frames = [i.first_seen_frame for i in instances]
        if all(frame is None for frame in frames):
            yield Rejection(kind, "first appearance unknown")
            continue
        first_seen[category] = min(f for f in frames if f is not None) / scene.fps
    if len(first_seen) < 4:
        yield Rejection(kind, "fewer than four categories with a first appearance")
        return
    for chosen in _shuffled(itertools.combinations(first_seen, 4), rng):
        chosen = _shuffled(chosen, rng)
        times = sorted(first_seen[name] for name in chosen)
        if np.diff(times).min() < rules.order_gap_s:
            yield Rejection(kind, "two first appearances at nearly the same time")
            continue
        answer = ", ".join(sorted(chosen, key=first_seen.get))
        orders = [", ".join(order) for order in itertools.permutations(chosen)]
        wrong = [o for o in _shuffled(orders, rng) if o != answer][:3]
        question = (
            "What will be the first-time appearance order of the following categories "
            f"in the video: {', '.join(chosen)}?"
        )
        yield _choice(kind, question, answer, wrong, chosen, rng, rules.shuffle_options)


GENERATORS = {
    f.__name__: f
    for f in (
        object_counting,
        object_size_estimation,
        room_size_estimation,
        object_abs_distance,
        object_rel_distance,
        object_rel_direction_easy,
        object_rel_direction_medium,
        object_rel_direction_hard,
        obj_appearance_order,
    )
}

# The three difficulties count as one of the seven kinds.
TASK_KINDS = {
    name: "object_rel_direction" if name.startswith("object_rel_dir") else name
    for name in GENERATORS
}
