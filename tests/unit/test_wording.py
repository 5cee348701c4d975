"""The words of questions: pinned, and the benchmark's own in recipe ``vsibench``."""

import hashlib
import json
import re
import string
from collections import Counter

import pytest

from spacer_lib.questions.generators import VSIBENCH_TYPES, question_rows
from spacer_lib.questions.kinds import QUESTION_TYPES
from spacer_lib.questions.recipes import load_recipe
from spacer_lib.questions.wording import WORDINGS, worded
from spacer_lib.rooms.scene import Scene
from spacer_lib.rooms.synthetic.layout import draw_room
from spacer_lib.rooms.synthetic.views import VIEWS, first_in_view, to_scene


def pattern(template):
    """What a question of the template looks like: a group for each name."""
    seen, parts = set(), []
    for words, name, _, _ in string.Formatter().parse(template):
        parts.append(re.escape(words))
        if name:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^?]+?)")
            seen.add(name)
    return re.compile("".join(parts))


def test_words_are_pinned():
    """The published words: a change here changes every question set."""
    pinned = {
        name: hashlib.sha256(
            json.dumps({kind: words[kind] for kind in VSIBENCH_TYPES}).encode()
        ).hexdigest()[:16]
        for name, words in WORDINGS.items()
    }
    assert pinned == {"spacer": "aeaed2f1bdaec0f7", "vsibench": "df2fc51ef6fef78f"}
    assert all(set(words) == set(QUESTION_TYPES) for words in WORDINGS.values())
    one, two = WORDINGS.values()
    assert {kind for kind in QUESTION_TYPES if one[kind] != two[kind]} == {
        "room_size_estimation",
        "object_abs_distance",
        "object_rel_direction_medium",
        "object_rel_direction_hard",
    }


@pytest.mark.parametrize(
    "recipe, wording",
    [
        ("vsibench", "vsibench"),
        ("vsibench-8", "vsibench"),
        ("3q", "vsibench"),
        ("sr91k", "spacer"),
        ("sr", "spacer"),
        ("vsi100k", "spacer"),
        ("demo", "spacer"),
    ],
)
def test_each_recipe_asks_in_the_published_words(recipe, wording):
    chosen = load_recipe(recipe)
    asked = Counter()
    for seed in range(6):
        room, view = draw_room(seed), VIEWS["walk"]
        scene = to_scene(room, view, first_seen=first_in_view(room, view))
        scene = Scene.from_meta(scene.scene_id, scene.to_meta())
        rows, _ = question_rows(
            scene, 0, per_task=2, rules=chosen.rules, tasks=chosen.tasks
        )
        for row in rows:
            kind = row["question_type"]
            assert pattern(WORDINGS[wording][kind]).fullmatch(row["question"]), row
            asked[kind] += 1
    assert set(asked) >= set(chosen.tasks) - {"obj_appearance_order"}


def test_every_official_question_is_in_our_words(real_qa):
    """Word for word, blanks and line breaks too."""
    found = Counter()
    for line in real_qa.read_text().splitlines():
        row = json.loads(line)
        kind, question = row["question_type"], row["question"]
        if kind == "route_planning":
            continue
        names = pattern(WORDINGS["vsibench"][kind]).fullmatch(question)
        assert names is not None, (kind, question)
        assert worded("vsibench", kind, **names.groupdict()) == question
        found[kind] += 1
    assert set(found) == set(VSIBENCH_TYPES)
