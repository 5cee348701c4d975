"""The blind test: planted shortcuts are found and pruned, balanced sets are not."""

import numpy as np
import pytest
from support import refused

from spacer_lib import cli
from spacer_lib.artifacts import read_json, write_jsonl
from spacer_lib.evaluation.blind import (
    Blind,
    blind_answers,
    blind_table,
    by_type,
    prune,
)
from spacer_lib.evaluation.forest import Growth, forest_means
from spacer_lib.rows import read_questions

WORDS = "chair table sofa bed lamp sink stove toilet desk shelf door window".split()
LETTERS = "ABCD"
HOW = Blind(growth=Growth(trees=10))


def choice(n, options, right, task="object_rel_distance"):
    """A multiple-choice row; four in each room."""
    return {
        "id": f"{task}/{n}",
        "dataset": "synthetic",
        "scene_name": f"scene{n // 4:04d}_0{n % 2}",
        "question_type": task,
        "problem_type": "multiple choice",
        "question": "Which of these objects is the closest to the door?",
        "options": [f"{a}. {o}" for a, o in zip(LETTERS, options, strict=True)],
        "ground_truth": LETTERS[right],
        "categories": ["door"],
    }


def count(n, category, truth, task="object_counting"):
    row = choice(n, LETTERS, 0, task)
    return row | {
        "problem_type": "numerical",
        "question": f"How many {category}(s) are in this room?",
        "options": None,
        "ground_truth": str(truth),
        "categories": [category],
    }


def choices(share, rows=400, seed=0):
    """The right option is the longest in this share of rows, else any."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(rows):
        # Letters at random: no text is met twice, so that none can be counted.
        options = ["".join(rng.choice(list("abcdefg"), 8)) for _ in range(4)]
        right = int(rng.integers(4))
        longest = right if rng.random() < share else int(rng.integers(4))
        options[longest] += "hhh"
        made.append(choice(n, options, right))
    return made


def counts(noise, rows=400, seed=0):
    """How many of a category there are is always the same, but for some noise."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(rows):
        which = int(rng.integers(len(WORDS)))
        any_count = int(rng.integers(1, 13))
        truth = any_count if rng.random() < noise else which + 1
        made.append(count(n, WORDS[which], truth))
    return made


def test_the_longest_option_is_found_and_pruned_to_near_chance():
    rows = choices(0.4)
    longest = {
        row["id"]
        for row in rows
        if len(row["options"][LETTERS.index(row["ground_truth"])])
        == max(map(len, row["options"]))
    }
    assert len(longest) / len(rows) == pytest.approx(0.55, abs=0.06)
    found = blind_table(rows, how=HOW)["types"]["object_rel_distance"]
    # No counted floor reads the length of an option.
    assert found["blind"] > 0.48 > found["floor"] + 0.1
    assert found["chance"] == 0.25 and found["rooms"] == 100
    left, report = prune(rows, how=HOW)
    told = report["types"]["object_rel_distance"]
    assert told["before"] == found["blind"]
    assert told["near"] and told["after"] < 0.34
    assert len(rows) - len(left) == told["dropped"] <= 200
    dropped = {row["id"] for row in rows} - {row["id"] for row in left}
    assert len(dropped & longest) > 0.95 * len(dropped)
    assert [row for row in rows if row["id"] not in dropped] == left


def test_counts_that_a_category_fixes_are_found_and_pruned():
    rows = counts(0.4)
    found = blind_table(rows, how=HOW)["types"]["object_counting"]
    assert found["blind"] > found["chance"] + 0.08
    assert found["floor_name"] == "category"
    told = prune(rows, how=HOW)[1]["types"]["object_counting"]
    assert told["near"] and 20 < told["dropped"] <= 200
    assert told["after"] - told["chance"] < (found["blind"] - found["chance"]) / 2


def test_a_shortcut_in_every_row_stops_at_the_share_that_may_go():
    rows = choices(1.0, rows=200)
    left, report = prune(rows, how=HOW)
    told = report["types"]["object_rel_distance"]
    assert told["before"] > 0.95 and told["after"] > 0.9 and not told["near"]
    assert len(left) == 100


@pytest.mark.parametrize("rows", [choices(0.0), counts(1.0)], ids=["choice", "count"])
def test_a_balanced_set_is_left_alone(rows):
    left, report = prune(rows, how=HOW)
    (told,) = report["types"].values()
    assert left == rows and told["dropped"] == 0 and told["near"]


def test_no_room_is_in_two_folds():
    """A room's own answer is known from its other rows, and from no other room."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(240):
        if n % 4 == 0:
            truth, word = int(rng.integers(1, 9)), f"thing{n}"
        rows.append(count(n, word, truth))
    found = blind_table(rows, how=HOW)["types"]["object_counting"]
    assert found["blind"] < found["chance"] + 0.05


def test_answers_in_words_are_tested_too():
    rng = np.random.default_rng(0)
    rows = []
    for n in range(200):
        word = WORDS[int(rng.integers(4))]
        truth = "left" if word in WORDS[:2] else "right"
        rows.append(
            count(n, word, truth, "object_rel_direction_easy")
            | {"problem_type": "option-free"}
        )
    found = blind_table(rows, how=HOW)["types"]["object_rel_direction_easy"]
    assert found["blind"] > 0.95 and found["chance"] < 0.6


def test_equal_seeds_give_equal_answers():
    rows = choices(0.3, rows=120)
    first = blind_answers(rows, how=HOW)
    assert blind_answers(rows, how=HOW) == first
    assert blind_answers(rows, how=HOW, seed=1) != first
    assert prune(rows, how=HOW) == prune(rows, how=HOW)
    assert all(guess.answer in LETTERS and 0 <= guess.sure <= 1 for guess in first)


def test_types_that_are_too_small_are_named_and_kept_whole():
    small = [count(n, "chair", 2) for n in range(8)]
    rows = choices(0.0, rows=80) + small
    parts, told = by_type(rows, HOW)
    assert list(parts) == ["object_rel_distance"]
    assert told == {"object_counting": "8 rows of 2 rooms"}
    assert prune(rows, how=HOW)[0] == rows
    for few in ([], small, choices(0.0, rows=80)[:16]):
        with refused("evaluation.too-few-rows"):
            blind_table(few, how=HOW)
        with refused("evaluation.too-few-rows"):
            prune(few, how=HOW)
        with refused("evaluation.too-few-rows"):
            blind_answers(few, how=HOW)
    with refused("evaluation.blind-out-of-range", says="1.5"):
        Blind(most=1.5)


def test_the_forest_learns_a_conjunction():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 6))
    Y = ((X[:, :1] > 0) & (X[:, 1:2] > 0)).astype(float)
    new = rng.normal(size=(200, 6))
    found = forest_means(X, np.hstack([Y, 1 - Y]), new, rng, Growth())
    truth = (new[:, 0] > 0) & (new[:, 1] > 0)
    assert np.mean((found[:, 0] > 0.5) == truth) > 0.9
    assert np.allclose(found.sum(axis=1), 1)


# ---------------------------------------------------------------- the command


def test_the_command_prints_the_table_and_writes_the_pruned_set(tmp_path, capsys):
    rows = choices(0.4, rows=240) + [count(n, "chair", 2) for n in range(8)]
    rows = [row | {"map": {"door": [[1, 2]]}, "video": "a.mp4"} for row in rows]
    write_jsonl(tmp_path / "train.jsonl", rows)
    out = tmp_path / "result.json"
    words = ["extras", "audit", "--blind", "--questions", str(tmp_path / "train.jsonl")]
    assert cli.main([*words, "--prune", "pruned", "--json", str(out)]) == 0
    said, result = capsys.readouterr().out, read_json(out)
    assert "not tested: object_counting, 8 rows of 2 rooms" in said
    assert result["types"]["object_rel_distance"]["rows"] == 240
    dropped = result["pruned"]["object_rel_distance"]["dropped"]
    assert dropped > 0 and result["questions"] == 248 - dropped
    kept = read_questions(tmp_path / "pruned.jsonl")
    assert read_questions(tmp_path / "pruned.parquet") == kept
    by_id = {row["id"]: row for row in read_questions(tmp_path / "train.jsonl")}
    assert len(kept) == 248 - dropped
    for row in kept:
        mine = by_id[row["id"]]
        assert {key: value for key, value in row.items() if key in mine} == mine


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--kind", "object_countin"], "object_counting"),
        (["--kind", "object_counting"], "8 rows of 2 rooms"),
        (["--prune", "train"], "--prune"),
        (["--prune", "../other"], "--prune"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(more, says, tmp_path, capsys):
    rows = choices(0.0, rows=60) + [count(n, "chair", 2) for n in range(8)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    words = ["audit", "--blind", "--questions", str(tmp_path / "train.jsonl"), *more]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert says in said and len(said.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_an_audit_needs_metadata_or_the_blind_test(tmp_path, capsys):
    write_jsonl(tmp_path / "train.jsonl", choices(0.0, rows=60))
    assert cli.main(["audit", "--questions", str(tmp_path / "train.jsonl")]) == 2
    assert "--meta" in capsys.readouterr().err
