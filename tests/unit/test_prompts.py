"""The exact words a model is asked with."""

import pytest
from support import refused

from spacer_lib.language.prompts import (
    EXAMPLE_MAP,
    FRAMES,
    MAP_MODES,
    MODES,
    Template,
    load_template,
    messages,
    user_text,
)
from spacer_lib.maps.boxes import parse_boxes
from spacer_lib.maps.text import parse_map

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
        "vanilla",
        "How many chair(s) are in this room?\n\n"
        "Answer with one number in digits and nothing else.",
    ),
    (
        COUNT,
        "observe",
        "How many chair(s) are in this room?\n\n"
        "Write two blocks: what the video shows that bears on the question inside "
        "<observe></observe>, then the answer. "
        "Inside <answer></answer> write only one number in digits.",
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
    (
        COUNT,
        "think_boxes",
        "How many chair(s) are in this room?\n\n"
        "Write two blocks: your reasoning inside <think></think>, then the answer. "
        "Inside <answer></answer> write only one number in digits.\n\n"
        "Begin your reasoning with a map of the room seen from above, inside "
        "<map></map>, in metres from the middle of the floor. x grows towards the "
        "right (east) and y towards the top (north). As one line of JSON, give for "
        "every kind of object the box of each one that you see: its middle and its two "
        'lengths on the floor, {"kind":[[x,y,along x,along y]],"other kind":[[x,y,'
        "along x,along y]]}. Then use the map to work out the answer.",
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


@pytest.mark.parametrize("mode", MAP_MODES)
def test_the_example_map_earns_nothing(mode):
    text = user_text(COUNT, mode)
    example = text[text.index("{") : text.rindex("}") + 1]
    assert parse_map(example).failure == "map_unreadable"
    assert parse_boxes(example).failure == "boxes_unreadable"


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


@pytest.mark.parametrize(
    "shown, parts",
    [
        ({"video": None, "image": "a.png"}, [("image", "a.png")]),
        ({"image": ["a.png", "b.png"]}, [("image", "a.png"), ("image", "b.png")]),
        ({"video": "a.mp4", "image": None}, [("video", "a.mp4")]),
        ({"video": None, "image": None}, []),
        ({"image": []}, []),
        ({}, []),
    ],
)
def test_a_row_shows_a_video_or_images_or_nothing(shown, parts):
    row = {key: value for key, value in CHOICE.items() if key != "video"} | shown
    (turn,) = messages(row, "tiny")
    assert turn["content"] == [
        *({"type": kind, kind: path} for kind, path in parts),
        {"type": "text", "text": user_text(row, "tiny")},
    ]


def test_a_row_with_a_video_and_an_image_is_refused():
    with refused("language.two-media", says="question 7"):
        messages({**CHOICE, "id": 7, "image": "a.png"}, "tiny")


def test_unknown_modes_and_types_are_refused():
    with refused("language.unknown-mode", says="think, think_map, observe, "):
        user_text(COUNT, "dream")
    with refused("language.unknown-problem-type", says="riddle"):
        messages({**COUNT, "problem_type": "riddle"}, "think")


# ------------------------------------------------------------------ frames


def test_the_frame_is_stated_or_not():
    aligned, start, unstated = (
        user_text(COUNT, "think_map", frame=frame) for frame in FRAMES
    )
    assert aligned == user_text(COUNT, "think_map")
    assert "+x" in aligned and "first frame" not in aligned
    assert "Up is where the camera of the first frame looks" in start
    assert "Columns and rows run from 0 to 9." in unstated
    for word in ("+x", "+y", "north", "up", "first frame", "right ("):
        assert word not in unstated.lower()
    for text in (start, unstated):
        assert "10 x 10 cells" in text and EXAMPLE_MAP in text


def test_boxes_have_a_frame_too():
    texts = [user_text(COUNT, "think_boxes", frame=frame) for frame in FRAMES]
    assert len(set(texts)) == len(FRAMES) and "first frame" in texts[1]


def test_general_rows_are_asked_for_no_map():
    general = {**COUNT, "part": "general"}
    assert user_text(general, "think_boxes") == user_text(COUNT, "think")
    assert user_text(general, "think_map") == user_text(COUNT, "think")
    assert user_text({**COUNT, "part": "spatial"}, "think_map") == user_text(
        COUNT, "think_map"
    )


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in MAP_MODES])
def test_only_map_prompts_speak_of_frames(mode):
    texts = {user_text(COUNT, mode, frame=frame) for frame in FRAMES}
    assert len(texts) == 1 and "map" not in texts.pop()


def test_unknown_frames_are_refused():
    with refused("language.unknown-frame", says="aligned, start_view, None"):
        user_text(COUNT, "think_map", frame="north")


# ------------------------------------------------------------------ templates

THEIRS = "Q: {question}\n{options}\nGive {answer_form}. {map}\n"


def written(tmp_path, text, name="theirs.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_template_replaces_the_words_of_every_mode(tmp_path):
    template = load_template(written(tmp_path, THEIRS))
    for mode in set(MODES) - set(MAP_MODES):
        assert user_text(CHOICE, mode, template=template) == (
            "Q: Which is closest to the bed?\nA. table\nB. chair\n"
            "Give the letter of the right option. "
        )
    drawn = user_text(COUNT, "think_map", 20, frame="start_view", template=template)
    assert drawn.startswith("Q: How many chair(s) are in this room?\n\nGive one number")
    assert "20 x 20 cells" in drawn and "first frame" in drawn
    (turn,) = messages(CHOICE, "think", template=template)
    assert turn["content"][1]["text"].startswith("Q: Which")


def test_values_are_never_templates():
    row = {**COUNT, "question": "{answer_form} {0} {x!r} {{map}} %s \\1 ${y}"}
    template = Template("{question}")
    assert user_text(row, "think", template=template) == row["question"]


def test_braces_that_name_nothing_are_text():
    text = '{question} {{map}} {"bed": [[1, 2]]} { } {} {0} {a b} {{"x"}}'
    filled = user_text(COUNT, "think_map", template=Template(text))
    rest = '{map} {"bed": [[1, 2]]} { } {} {0} {a b} {{"x"}}'
    assert filled == f"{COUNT['question']} {rest}"


def test_a_yaml_template_has_its_own_answer_forms(tmp_path):
    text = (
        "text: |\n  {question}\n  {answer_form}\n"
        "answer_forms:\n  numerical: the number\n"
    )
    template = load_template(written(tmp_path, text, "theirs.yaml"))
    said = user_text(COUNT, "direct", template=template)
    assert said == f"{COUNT['question']}\nthe number"
    assert user_text(CHOICE, "direct", template=template).endswith("right option")


BAD_TEMPLATES = [
    # name, text, kind, fact
    ("theirs.txt", "{question} {answer}", "placeholders", "answer, question"),
    ("theirs.txt", "{options}", "placeholders", "got options"),
    ("theirs.txt", "", "placeholders", "none"),
    ("theirs.yaml", "- {question}", "keys", "theirs.yaml"),
    ("theirs.yaml", "text: 3", "keys", "theirs.yaml"),
    ("theirs.yaml", "words: '{question}'", "keys", "theirs.yaml"),
    ("theirs.yaml", "text: '{question}'\nanswer_forms: 3", "keys", "theirs.yaml"),
    (
        "theirs.yaml",
        "text: '{question}'\nanswer_forms: {riddle: x}",
        "answer-forms",
        "riddle",
    ),
    (
        "theirs.yaml",
        "text: '{question}'\nanswer_forms: {numerical: 3}",
        "keys",
        "theirs.yaml",
    ),
]


@pytest.mark.parametrize("name, text, kind, fact", BAD_TEMPLATES)
def test_broken_templates_are_refused(tmp_path, name, text, kind, fact):
    with refused(f"language.template-{kind}", says=fact):
        load_template(written(tmp_path, text, name))


def test_a_template_that_is_no_yaml(tmp_path):
    with refused("settings.not-yaml", says="theirs.yaml"):
        load_template(written(tmp_path, "text: '{", "theirs.yaml"))


def test_a_template_that_is_not_there(tmp_path):
    with refused("language.template-unreadable", says="absent.txt"):
        load_template(tmp_path / "absent.txt")
