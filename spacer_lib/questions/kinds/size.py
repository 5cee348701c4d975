"""Sizes: the longest edge of an object, the largest of several, the room's area."""

import numpy as np

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
    Row,
    Undetermined,
    fitting,
    names_in,
    rounded,
    the_box,
)
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.scene import BENCHMARK_AREA, Ring, Scene

OBJECT_WORDS = in_each_wording(
    "What is the length of the longest dimension (length, width, or height) of the "
    "{object}, measured in centimeters?"
)
_ROOM = (
    "What is the size of this room (in square meters)?",
    "If multiple rooms are shown, estimate the size of the combined space.",
)
# The benchmark has line breaks, here after a blank.
ROOM_WORDS = {"spacer": " ".join(_ROOM), "vsibench": " \n".join(_ROOM)}
LARGEST_WORDS = in_each_wording(
    "Judging by the longest dimension (length, width, or height), which of these "
    "objects ({options}) is the largest?"
)
FEW_UNIQUE = "fewer than {} unique categories"
NEARLY_EQUAL = "the two largest are nearly equal"
NOT_UNIQUE = "category is not unique"
TOO_SMALL = "object too small"
NO_AREA = "no area of the room by the rule {}"


def object_size_estimation(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Longest edge of the oriented box in whole centimetres (*official*)."""
    kind = "object_size_estimation"
    groups = askable(scene, rules)
    unique = unique_objects(scene, groups)
    for category in shuffled(groups, rng):
        if category not in unique:
            yield Rejection(kind, NOT_UNIQUE)
            continue
        longest = max(unique[category].axes_lengths_m)
        if longest < rules.smallest_edge_m:
            yield Rejection(kind, TOO_SMALL)
            continue
        question = OBJECT_WORDS[rules.wording].format(object=category)
        answer = str(round(longest * 100))
        yield Draft(kind, NUMERICAL, question, None, answer, (category,))


def object_size_comparison(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Which of several unique objects has the longest edge of its box."""
    kind, size = "object_size_comparison", rules.rel_distance_options
    unique = unique_objects(scene, askable(scene, rules))
    if len(unique) < size:
        yield Rejection(kind, FEW_UNIQUE.format(size))
    names = shuffled(unique, rng)
    for start in range(0, len(names) - size + 1, size):
        options = names[start : start + size]
        edges = {name: max(unique[name].axes_lengths_m) for name in options}
        ranked = sorted(edges.values())
        if min(edges.values()) < rules.smallest_edge_m:
            yield Rejection(kind, TOO_SMALL)
            continue
        if ranked[-1] < ranked[-2] * (1 + rules.size_margin):
            yield Rejection(kind, NEARLY_EQUAL)
            continue
        answer = max(edges, key=edges.__getitem__)
        words = LARGEST_WORDS[rules.wording]
        yield listed_choice(kind, words, answer, options, rng, rules.shuffle_options)


def room_size_estimation(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Area by the rule ``room_area`` in square metres, one decimal (*official*)."""
    kind = "room_size_estimation"
    area_m2 = scene.room_areas_m2.get(rules.room_area, 0.0)
    if round(area_m2, 1) <= 0:
        yield Rejection(kind, NO_AREA.format(rules.room_area))
        return
    question = ROOM_WORDS[rules.wording]
    answer = str(round(area_m2, 1))
    yield Draft(kind, NUMERICAL, question, None, answer, ())


def _longest_edge(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Lengths of the edges of the box, as vectors in the room."""
    edges = the_box(scene, names_in(OBJECT_WORDS, row)["object"], rules).edges
    return rounded(100 * float(np.linalg.norm(edges, axis=1).max()), 0)


def _none_longer(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The options with an edge that no edge of the others exceeds."""
    names = names_in(LARGEST_WORDS, row)["options"].split(", ")
    extents = {
        name: np.linalg.norm(the_box(scene, name, rules).edges, axis=1).max()
        for name in names
    }
    most = max(extents.values())
    longest = [name for name in names if extents[name] > most - 1e-6]
    return fitting(row, longest)


AREA_SLACK_M2 = 0.02  # the outline is in whole millimetres, without flat corners


def _area_on_the_floor(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """The floor inside the scene's outline, strip by strip.

    Only the benchmark's rule has an outline, in scenes that were parsed here: of the
    others the metadata have the area alone, which then is the answer.
    """
    names_in(ROOM_WORDS, row)
    if rules.room_area not in scene.room_areas_m2:
        raise Undetermined(f"no area by the rule {rules.room_area}")
    if rules.room_area != BENCHMARK_AREA or not scene.outline_m:
        return rounded(scene.room_areas_m2[rules.room_area], 1)
    return rounded(in_strips_m2(scene.outline_m), 1, AREA_SLACK_M2)


def in_strips_m2(rings: tuple[Ring, ...]) -> float:
    """Area inside closed lines, cut into strips at the height of every corner.

    In a strip all borders are straight: its area is its height times the length inside,
    in the middle. There the border is crossed inwards and outwards in turn.

    Examples
    --------
    >>> round(in_strips_m2((((0, 0), (4, 0), (4, 2.5), (0, 2.5)),)), 6)
    10.0
    """
    lines = [
        (*here, *there)
        for ring in rings
        for here, there in zip(ring, (*ring[1:], ring[0]), strict=True)
    ]
    x0, y0, x1, y1 = np.array(lines).T
    corners = np.unique(y0)
    y = ((corners[:-1] + corners[1:]) / 2)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    # (strips, lines); where a line is not met there is no number, sorted to the end.
    crossed = np.sort(np.where((y0 < y) != (y1 < y), x, np.nan), axis=1)
    pairs = crossed[:, : len(lines) // 2 * 2].reshape(len(y), -1, 2)
    inside = np.nansum(pairs[..., 1] - pairs[..., 0], axis=1)
    return float((inside * np.diff(corners)).sum())


TYPES = (
    QuestionType(
        name="object_size_estimation",
        kind="object_size_estimation",
        words=OBJECT_WORDS,
        generator=object_size_estimation,
        oracle=_longest_edge,
        problem_type=NUMERICAL,
        unit="cm",
        rejections=(NOT_UNIQUE, TOO_SMALL),
    ),
    QuestionType(
        name="object_size_comparison",
        kind="object_size_comparison",
        words=LARGEST_WORDS,
        generator=object_size_comparison,
        oracle=_none_longer,
        problem_type=MULTIPLE_CHOICE,
        rejections=(FEW_UNIQUE, TOO_SMALL, NEARLY_EQUAL),
        lists_options=True,
    ),
    QuestionType(
        name="room_size_estimation",
        kind="room_size_estimation",
        words=ROOM_WORDS,
        generator=room_size_estimation,
        oracle=_area_on_the_floor,
        problem_type=NUMERICAL,
        unit="m²",
        rejections=(NO_AREA,),
    ),
)
