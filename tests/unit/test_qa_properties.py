"""No degenerate question in thousands of random rooms with odd files' faults."""

import re
from collections import Counter

import numpy as np
import pytest

from spacer_lib.questions.generators import (
    DISTANCES,
    VSIBENCH_TYPES,
    Rules,
    question_rows,
)
from spacer_lib.rooms.scene import STRUCTURAL_CATEGORIES, ObjectInstance, Scene

ROOMS = 2000
# Plurals, names within names, structural ones, one of two spellings of a thing.
NAMES = (
    "chair",
    "chairs",
    "blinds",
    "computer mouse",
    "mouse",
    "desk lamp",
    "lamp",
    "table",
    "coffee table",
    "glass",
    "bookshelf",
    "shelf",
    "bed",
    "wall",
    "floor",
    "object",
    "ceiling",
    "doorframe",
    "door",
    "trash bin",
    "box",
    "stairs",
)


def wild_scene(seed):
    """A room with repeated names, equal places, slivers, and wrong counts."""
    rng = np.random.default_rng([seed, 77])
    instances, places = [], [rng.uniform(0, 6, 3)]
    for number in range(rng.integers(0, 16)):
        near = rng.random() < 0.15  # exactly where another object stands
        center = places[rng.integers(len(places))] if near else rng.uniform(0, 6, 3)
        places.append(center)
        size = rng.choice([0.0, 0.01, 0.1, 0.5, 2.0], 3) * rng.uniform(0.5, 1.5, 3)
        turn = rng.uniform(0, np.pi)
        c, s = np.cos(turn), np.sin(turn)
        axes = (c, s, 0, -s, c, 0, 0, 0, 1) if rng.random() < 0.5 else np.eye(3).ravel()
        half = size / 2
        seen = None if rng.random() < 0.2 else int(rng.integers(0, 2000))
        instances.append(
            ObjectInstance(
                number,
                str(rng.choice(NAMES)),
                center,
                size,
                axes,
                center - half,
                center + half,
                None,
                seen,
            )
        )
    counts = Counter(i.category for i in instances)
    for name in counts:  # published files disagree with themselves
        counts[name] += int(rng.random() < 0.1)
    return Scene(
        f"scene{seed:05d}_00",
        "wild",
        instances,
        float(rng.choice([0.0, 0.04, 17.3])),
        (3, 3, 1),
        (0, 0),
        (6, 6),
        object_counts=dict(counts),
        fps=None if rng.random() < 0.2 else 24.0,
    )


@pytest.fixture(scope="module")
def asked():
    """(scene, rules, rows, rejections) of every room."""
    every = []
    for seed in range(ROOMS):
        scene = wild_scene(seed)
        rules = Rules(
            boxes="aligned" if seed % 3 == 0 else "oriented",
            abs_distance=DISTANCES[seed % 5 % 3],
        )
        every.append((scene, rules, *question_rows(scene, 1, per_task=2, rules=rules)))
    return every


def test_objects_named_are_distinct_unique_and_things(asked):
    kinds = Counter()
    for scene, _, rows, _ in asked:
        boxes = Counter(i.category for i in scene.instances)
        for row in rows:
            names, kind = row["categories"], row["question_type"]
            kinds[kind] += 1
            assert len(set(names)) == len(names), row
            assert not set(names) & STRUCTURAL_CATEGORIES, row
            unique = {
                "object_rel_distance": names[:1],
                "object_counting": [],
                "obj_appearance_order": [],
            }.get(kind, names)
            for name in unique:
                assert boxes[name] == scene.object_counts[name] == 1, row
    assert min(kinds[kind] for kind in VSIBENCH_TYPES) > 100, kinds


def test_words_are_whole_and_plurals_single(asked):
    for _, _, rows, _ in asked:
        for row in rows:
            text = row["question"]
            assert not re.search(r"s\(s\)(?<!glass\(s\))", text), text
            assert "{" not in text and "  " not in text
            assert all(name in text for name in row["categories"])
            if "direction" in row["question_type"]:
                position, facing, query = row["categories"]
                assert text.startswith(
                    f"If I am standing by the {position} and facing the {facing}, is "
                    f"the {query} "
                )


def test_every_answer_is_one_of_its_options_or_a_positive_number(asked):
    for _, _, rows, _ in asked:
        for row in rows:
            if row["options"]:
                texts = [option[3:] for option in row["options"]]
                letters = [option[0] for option in row["options"]]
                assert len(set(texts)) == len(texts) >= 2, row
                assert row["ground_truth"] in letters == list("ABCD"[: len(texts)])
            else:
                value = float(row["ground_truth"])
                assert np.isfinite(value) and value > 0, row
        ids = [row["id"] for row in rows]
        words = [(row["question"], str(row["options"])) for row in rows]
        assert len(set(ids)) == len(ids) and len(set(words)) == len(words)


def test_each_room_is_accounted_for(asked):
    """A question or a named reason, for every kind and room."""
    for scene, _, rows, rejections in asked:
        spoken = {row["question_type"] for row in rows} | {
            kind for kind, _ in rejections
        }
        things = scene.by_category()
        for kind in VSIBENCH_TYPES:
            empty = (
                kind
                in ("object_counting", "object_size_estimation", "obj_appearance_order")
                and not things
            )
            assert kind in spoken or empty or scene.fps is None, (kind, scene.scene_id)
