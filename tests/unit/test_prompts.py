"""The exact words a model is asked with."""

import pytest

from spacer_lib.cogmap import parse_map
from spacer_lib.errors import SpacerError
from spacer_lib.prompts import MODES, messages, user_text

CHOICE = {
    "question": "Which is closest to the bed?",
    "problem_type": "multiple choice",
    "options": ["A. table", "B. chair"],
    "video": "rooms/a.mp4",
}
COUNT = {
    "question": "How many chair(s) are in this room?",
    "problem_type": "numerical",
    "options": None,
    "video": "room://old/7",
}

TEXTS = [
    (CHOICE, "tiny", "Which is closest to the bed?\nA. table\nB. chair"),
    (COUNT, "tiny", "How many chair(s) are in this room?"),
    (
        CHOICE,
        "direct",
        "Which is closest to the bed?\nA. table\nB. chair\n\n"
        "Answer at once, without any explanation. "
        "Inside <answer></answer> write only the letter of the right option.",
    ),
    (
        COUNT,
        "think",
        "How many chair(s) are in this room?\n\n"
        "Write two blocks: your reasoning inside <think></think>, then the answer. "
        "Inside <answer></answer> write only one number in digits.",
    ),
    (
        COUNT,
        "think_map",
        "How many chair(s) are in this room?\n\n"
        "Write two blocks: your reasoning inside <think></think>, then the answer. "
        "Inside <answer></answer> write only one number in digits.\n\n"
        "Begin your reasoning with a map of the room seen from above, inside "
        "<map></map>. Divide the floor into 10 x 10 cells. Columns run from 0 to 9 "
        "towards the right (east, +x); rows run from 0 to 9 towards the top (north, "
        "+y). As one line of JSON, give for every kind of object the cell at the "
        "centre of each one that you see: "
        '{"kind":[[column,row],[column,row]],"other kind":[[column,row]]}. '
        "Then use the map to work out the answer.",
    ),
]


@pytest.mark.parametrize("row, mode, text", TEXTS, ids=[t[1] for t in TEXTS])
def test_exact_texts(row, mode, text):
    assert user_text(row, mode) == text


@pytest.mark.parametrize(
    "kind, form",
    [
        ("regression", "one number in digits"),
        ("option-free", "the words of your choice"),
        ("ocr", "the text you read, word for word"),
        ("free-form", "a short answer"),
    ],
)
def test_answer_forms(kind, form):
    row = {**COUNT, "problem_type": kind}
    assert user_text(row, "think").endswith(f"write only {form}.")


def test_the_grid_size_is_named():
    text = user_text(COUNT, "think_map", grid_size=20)
    assert "20 x 20 cells" in text and "from 0 to 19" in text


def test_the_example_map_earns_nothing():
    text = user_text(COUNT, "think_map")
    example = text[text.index("{") : text.rindex("}") + 1]
    assert parse_map(example).failure == "map_unreadable"


@pytest.mark.parametrize("mode", MODES)
def test_messages_hold_the_video_then_the_text(mode):
    assert messages(CHOICE, mode) == [
        {
            "role": "user",
            "content": [
                {"type": "video", "video": "rooms/a.mp4"},
                {"type": "text", "text": user_text(CHOICE, mode)},
            ],
        }
    ]


def test_unknown_modes_and_types_are_refused():
    with pytest.raises(SpacerError, match="expected think, think_map, direct, tiny"):
        user_text(COUNT, "dream")
    with pytest.raises(SpacerError, match="problem type: got riddle"):
        messages({**COUNT, "problem_type": "riddle"}, "think")
