"""How many objects of a category are in the room."""

import numpy as np

from spacer_lib.maps.text import normal_category
from spacer_lib.questions.askable import askable
from spacer_lib.questions.drafts import NUMERICAL, Draft, Drafts, Rejection, shuffled
from spacer_lib.questions.kinds.record import QuestionType, in_each_wording
from spacer_lib.questions.oracle import Row, Undetermined, boxes_of, names_in
from spacer_lib.questions.rules import DEFAULT_RULES, Rules
from spacer_lib.rooms.scene import Scene

WORDS = in_each_wording("How many {objects} are in this room?")
FEW_INSTANCES = "fewer than {} instances"


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


def _counted(row: Row, scene: Scene, rules: Rules) -> tuple[str, ...]:
    """Boxes counted one by one; where the stated counts differ, nothing is fixed."""
    asked = names_in(WORDS, row)["objects"].removesuffix("(s)")
    boxes = len(boxes_of(scene, asked, rules))
    if scene.object_counts.get(asked) != boxes:
        raise Undetermined("counts and boxes of the category differ")
    return (str(boxes),)


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
    ),
)
