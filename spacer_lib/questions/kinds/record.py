"""What a kind of question registers: a ``QuestionType`` for each of its types."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from spacer_lib.questions.drafts import Drafts
from spacer_lib.questions.oracle import Oracle
from spacer_lib.questions.rules import WORDING_NAMES, Rules
from spacer_lib.rooms.scene import Scene

Generator = Callable[[Scene, np.random.Generator, Rules], Drafts]


@dataclass(frozen=True)
class QuestionType:
    """One type of question.

    Attributes
    ----------
    name : str
        ``question_type`` of its rows.
    kind : str
        What results are summed by: the difficulties of direction are one kind.
    words : dict
        Wording → the question, with the names of objects in braces.
    generator : callable
        Scene, random generator and rules → drafts and rejections.
    oracle : callable
        Row, scene and rules → the answers that fit, derived in a second way; see
        ``questions.oracle``. It raises ``Undetermined`` where the scene fixes none.
    problem_type : str
        How an answer is scored.
    unit : str
        Of a numerical answer; empty for options.
    rejections : tuple of str
        The reasons it may give, with values in braces.
    lists_options : bool
        Whether the question itself lists its options, in the order of their letters.
    by_frames : bool
        Whether the answer may depend on how many frames are shown; see
        ``questions.budgets``.
    """

    name: str
    kind: str
    words: Mapping[str, str]
    generator: Generator
    oracle: Oracle
    problem_type: str
    unit: str = ""
    rejections: tuple[str, ...] = ()
    lists_options: bool = False
    by_frames: bool = False


def in_each_wording(words: str) -> dict[str, str]:
    """Wording → the same words."""
    return dict.fromkeys(WORDING_NAMES, words)
