"""The words of the questions: SpaceR's, and VSI-Bench's where they differ.

Source: SpaceR Figure 5 and Appendix A; VSI-Bench's questions,
https://huggingface.co/datasets/nyu-visionx/VSI-Bench.
"""

from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.rules import WORDING_NAMES

# Wording → question type → words, with the names of objects in braces.
WORDINGS = {
    wording: {name: one.words[wording] for name, one in QUESTION_TYPES.items()}
    for wording in WORDING_NAMES
}


def worded(wording: str, question_type: str, **names: str) -> str:
    """The question in one of ``WORDINGS``, with the names put in.

    Examples
    --------
    >>> worded("spacer", "object_counting", objects="chair(s)")
    'How many chair(s) are in this room?'
    """
    return WORDINGS[wording][question_type].format(**names)
