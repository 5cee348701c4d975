"""The words of the questions: SpaceR's, and VSI-Bench's where they differ.

Source: SpaceR Figure 5 and Appendix A; VSI-Bench's questions,
https://huggingface.co/datasets/nyu-visionx/VSI-Bench.
"""

_BY_THE = "If I am standing by the {position} and facing the {facing}, is the {query} "
_MEDIUM = (
    _BY_THE + "to my left, right, or back?",
    "An object is to my back if I would have to turn at least 135 degrees in order to "
    "face it.",
)
_HARD = _BY_THE + "to my front-left, front-right, back-left, or back-right?"
_ROOM = (
    "What is the size of this room (in square meters)?",
    "If multiple rooms are shown, estimate the size of the combined space.",
)
_SPACER = {
    "object_counting": "How many {objects} are in this room?",
    "object_size_estimation": "What is the length of the longest dimension (length, "
    "width, or height) of the {object}, measured in centimeters?",
    "room_size_estimation": " ".join(_ROOM),
    "object_abs_distance": "Measuring from the {where} of each object, what is the "
    "direct distance between the {first} and the {second} (in meters)?",
    "object_rel_distance": "Measuring from the closest point of each object, which of "
    "these objects ({options}) is the closest to the {target}?",
    "object_rel_direction_easy": _BY_THE + "to the left or the right of the {facing}?",
    "object_rel_direction_medium": " ".join(_MEDIUM),
    "object_rel_direction_hard": _HARD + " Directions refer to the quadrants of a "
    "Cartesian plane (assuming I am at the origin and facing the positive y-axis).",
    "obj_appearance_order": "What will be the first-time appearance order of the "
    "following categories in the video: {categories}?",
}
# Four of the nine differ. The benchmark has line breaks, one after a blank.
_VSIBENCH = _SPACER | {
    "room_size_estimation": " \n".join(_ROOM),
    "object_abs_distance": "Measuring from the {where} of each object, what is the "
    "distance between the {first} and the {second} (in meters)?",
    "object_rel_direction_medium": "\n".join(_MEDIUM),
    "object_rel_direction_hard": _HARD + "\nThe directions refer to the quadrants of a "
    "Cartesian plane (if I am standing at the origin and facing along the positive "
    "y-axis).",
}
# Wording → question type → words, with the names of objects in braces.
WORDINGS = {"spacer": _SPACER, "vsibench": _VSIBENCH}


def worded(wording: str, question_type: str, **names: str) -> str:
    """The question in one of ``WORDINGS``, with the names put in.

    Examples
    --------
    >>> worded("spacer", "object_counting", objects="chair(s)")
    'How many chair(s) are in this room?'
    """
    return WORDINGS[wording][question_type].format(**names)
