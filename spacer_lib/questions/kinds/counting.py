"""How many objects of one or two categories are in the room, and whether any is."""

import itertools

import numpy as np

from spacer_lib.maps.text import normal_category
from spacer_lib.questions.askable import askable
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
from spacer_lib.questions.oracle import (
    Row,
    Undetermined,
    boxes_of,
    fitting,
    names_in,
)
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.scene import Scene

WORDS = in_each_wording("How many {objects} are in this room?")
BOTH_WORDS = in_each_wording(
    "How many objects are {first} or {second} in this room, counted together?"
)
EXISTENCE_WORDS = in_each_wording("Does this room have at least one {object}?")
FEW_INSTANCES = "fewer than {} instances"
FEW_CATEGORIES = "fewer than two categories"
NO_THING = "no category"
# What rooms may have; a question may also ask for one that this room lacks.
COMMON_CATEGORIES = (
    "backpack",
    "bathtub",
    "bed",
    "bookshelf",
    "chair",
    "door",
    "lamp",
    "microwave",
    "nightstand",
    "pillow",
    "refrigerator",
    "sink",
    "sofa",
    "stool",
    "suitcase",
    "table",
    "toilet",
    "trash bin",
    "tv",
    "washer",
    "whiteboard",
    "window",
)


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
    for category in shuffled(askable(scene, rules), rng):
        count = scene.object_counts.get(category, 0)
        if count < rules.min_count:
            yield Rejection(kind, FEW_INSTANCES.format(rules.min_count))
            continue
        question = WORDS[rules.wording].format(objects=with_plural(category))
        yield Draft(kind, NUMERICAL, question, None, str(count), (category,))


def object_counting_multiple(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Number of instances of two categories together."""
    kind = "object_counting_multiple"
    names = sorted(askable(scene, rules))
    if len(names) < 2:
        yield Rejection(kind, FEW_CATEGORIES)
    for pair in shuffled(itertools.combinations(names, 2), rng):
        counts = [scene.object_counts.get(name, 0) for name in pair]
        if max(counts) < rules.min_count or not min(counts):
            yield Rejection(kind, FEW_INSTANCES.format(rules.min_count))
            continue
        first, second = map(with_plural, pair)
        question = BOTH_WORDS[rules.wording].format(first=first, second=second)
        yield Draft(kind, NUMERICAL, question, None, str(sum(counts)), pair)


def object_existence(
    scene: Scene, rng: np.random.Generator, rules: Rules = DEFAULT_RULES
) -> Drafts:
    """Whether the room has an object of a category: yes and no in turn.

    A category is absent if neither the boxes nor the counts have it, under any plural.
    """
    kind = "object_existence"
    known = {normal_category(n) for i in scene.instances for n in (i.category,)}
    known |= {normal_category(name) for name in scene.object_counts}
    lacking = [c for c in COMMON_CATEGORIES if normal_category(c) not in known]
    lacking = shuffled((c for c in lacking if c not in rules.excluded), rng)
    there = shuffled(askable(scene, rules), rng)
    if not there:
        yield Rejection(kind, NO_THING)
        return
    turns = [("yes", there), ("no", lacking)]
    for pair in itertools.zip_longest(*(names for _, names in turns[:: _side(rng)])):
        for category in filter(None, pair):
            answer = "yes" if category in there else "no"
            yield multiple_choice(
                kind,
                EXISTENCE_WORDS[rules.wording].format(object=category),
                answer,
                ["no" if answer == "yes" else "yes"],
                (category,),
                rng,
                rules.shuffle_options,
            )


def _side(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _counted(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Boxes counted one by one; where the stated counts differ, nothing is fixed."""
    asked = names_in(WORDS, row)["objects"].removesuffix("(s)")
    boxes = len(boxes_of(scene, asked, rules))
    if scene.object_counts.get(asked) != boxes:
        raise Undetermined("counts and boxes of the category differ")
    return (str(boxes),)


def _counted_together(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """One pass over the boxes: is it the one or the other?"""
    asked = names_in(BOTH_WORDS, row)
    both = {asked[key].removesuffix("(s)") for key in ("first", "second")}
    if any(
        scene.object_counts.get(name) != len(boxes_of(scene, name, rules))
        for name in both
    ):
        raise Undetermined("counts and boxes of a category differ")
    return (str(sum(one.category in both for one in scene.instances)),)


def _looked_for(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Whether the category, or it with an s more or less, is among the boxes."""
    name = names_in(EXISTENCE_WORDS, row)["object"]
    spellings = {name, f"{name}s", f"{name}es", name.removesuffix("s")}
    found = any(one.category.lower() in spellings for one in scene.instances)
    return fitting(row, ["yes" if found else "no"])


TYPES = (
    QuestionType(
        name="object_counting",
        kind="object_counting",
        words=WORDS,
        generator=object_counting,
        oracle=_counted,
        problem_type=NUMERICAL,
        unit="objects",
        rejections=(FEW_INSTANCES,),
        by_frames=True,
    ),
    QuestionType(
        name="object_counting_multiple",
        kind="object_counting",
        words=BOTH_WORDS,
        generator=object_counting_multiple,
        oracle=_counted_together,
        problem_type=NUMERICAL,
        unit="objects",
        rejections=(FEW_CATEGORIES, FEW_INSTANCES),
        by_frames=True,
    ),
    QuestionType(
        name="object_existence",
        kind="object_existence",
        words=EXISTENCE_WORDS,
        generator=object_existence,
        oracle=_looked_for,
        problem_type=MULTIPLE_CHOICE,
        rejections=(NO_THING,),
        by_frames=True,
    ),
)
