"""The kinds of question: each module registers its question types in ``TYPES``."""

from spacer_lib.questions.kinds import (
    appearance,
    camera,
    counting,
    direction,
    distance,
    picture,
    route,
    size,
)
from spacer_lib.questions.kinds.record import QuestionType

_MODULES = (counting, size, distance, direction, appearance, route, camera, picture)
QUESTION_TYPES: dict[str, QuestionType] = {
    one.name: one for module in _MODULES for one in module.TYPES
}


def lists_options(question_type: str) -> bool:
    """Whether a question of the type lists its options; see ``QuestionType``."""
    known = QUESTION_TYPES.get(question_type)
    return known is not None and known.lists_options
