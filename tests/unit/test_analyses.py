"""The papers' tables from a few predictions whose numbers are known."""

import math

import numpy as np
import pytest
from support import refused

from spacer_lib.artifacts import PROJECT_ROOT, read_json
from spacer_lib.evaluation.analyses import (
    ablation_table,
    count_spatial_words,
    map_size_table,
    run_table,
    spatial_words,
    word_table,
)
from spacer_lib.evaluation.conditions import random_map
from spacer_lib.evaluation.predictions import record, reward_rule
from spacer_lib.maps.scores import hits
from spacer_lib.maps.text import map_to_text
from spacer_lib.rewards.config import RewardConfig

TRUE = {"bed": [[2, 2]], "lamp": [[5, 8]], "chair": [[1, 1], [8, 1]]}


def row_of(i, kind="object_counting", truth="2", cells=TRUE):
    choice = kind != "object_counting"
    return {
        "id": f"q{i}",
        "scene_name": f"scene{i // 2:04}_00",
        "question_type": kind,
        "problem_type": "multiple choice" if choice else "numerical",
        "options": ["A. left", "B. right"] if choice else None,
        "question": "?",
        "ground_truth": truth,
        "categories": ["chair"],
        "map": cells,
    }


ROWS = [row_of(i) for i in range(6)]
ROWS += [row_of(i, "object_rel_direction_easy", "A") for i in range(6, 10)]


def says(answer, words="", cells=None):
    drawn = f"<map>{map_to_text(cells)}</map>" if cells else ""
    return f"<think>{drawn}{words}</think><answer>{answer}</answer>"


def run(answers, words="", cells=None, rows=ROWS, rewards=None):
    pairs = zip(rows, answers, strict=True)
    rule, size = reward_rule(rewards), rewards.grid_size if rewards else 10
    return [
        record(row, says(a, words, cells), rule, grid_size=size) for row, a in pairs
    ]


RIGHT = ["2"] * 6 + ["A"] * 4
WRONG = ["9"] * 6 + ["B"] * 4
HALF = ["2"] * 6 + ["B"] * 4

# ---------------------------------------------------------------- runs side by side


def test_runs_side_by_side():
    away = {**TRUE, "chair": [[1, 2], [5, 5]], "lamp": [[9, 9]]}  # 2 of 4 within a cell
    table = run_table(
        {"wrong": run(WRONG, cells=away), "half": run(HALF, cells=TRUE)},
        reference="wrong",
    )
    assert table.loc["wrong", ["n", "macro"]].tolist() == [10, 0]
    assert table.loc["half", "object_counting"] == 1
    assert table.loc["half", "object_rel_direction"] == 0
    assert table.loc["half", ["macro", "delta"]].tolist() == [0.5, 0.5]
    assert math.isnan(table.loc["wrong", "delta"])
    assert table["hits"].tolist() == [0.5, 1.0]
    assert table.loc["half", "low"] <= 0.5 <= table.loc["half", "high"]
    assert table.loc["half", "verdict"] == "up"
    same = run_table({"a": run(HALF), "b": run(HALF)}, reference="a")
    assert same.loc["b", "verdict"] == "not distinguishable"
    with refused("evaluation.unknown-reference", says="c"):
        run_table({"a": run(HALF), "b": run(HALF)}, reference="c")
    with refused("evaluation.other-questions", says="4 shared"):
        run_table({"a": run(HALF), "b": run(HALF)[:4]}, reference="a")


def test_hits_pool_instances_over_maps():
    rows = [row_of(0), row_of(2, cells={"chair": [[0, 0]]})]
    made = run(["2", "2"], cells={"chair": [[1, 1]]}, rows=rows)
    assert run_table({"one": made}).loc["one", "hits"] == 2 / 5
    # Questions without a map neither add nor take away.
    mixed = made + run(["2"], rows=[row_of(4, cells=None)])
    assert run_table({"one": mixed}).loc["one", "hits"] == pytest.approx(2 / 5)
    bare = run(["2", "2"], rows=[row_of(i, cells=None) for i in (0, 2)])
    assert math.isnan(run_table({"none": bare}).loc["none", "hits"])


def test_the_same_places_on_grids_of_two_sizes():
    """Objects drawn 2 of 10 cells too far east: one cell of 5, four of 20."""
    fine = {"bed": [[4, 4]], "lamp": [[10, 16]]}
    runs = {}
    for size, scale, step in ((5, 4, 1), (20, 1, 4)):
        cells = {k: [[x // scale, y // scale] for x, y in v] for k, v in fine.items()}
        moved = {k: [[x + step, y] for x, y in v] for k, v in cells.items()}
        rows = [row_of(i, cells=cells) for i in range(40)]
        rewards = RewardConfig(grid_size=size)
        runs[size] = run(["2"] * 40, cells=moved, rows=rows, rewards=rewards), rows
    table = map_size_table(runs, draws=20)
    assert table["within_one_cell"].tolist() == [1, 0]
    assert table["same_distance"].tolist() == [0, 0]
    # Nine cells around (1, 1), six around (2, 4) at the wall; nine of 400.
    assert table.loc[5, "by_chance"] == pytest.approx((9 + 6) / 2 / 25, abs=0.04)
    assert table.loc[20, "by_chance"] == pytest.approx(9 / 400, abs=0.015)
    # 0.75 cells of 5: only the cell itself; 3 cells of 20: 29 cells.
    assert table.loc[5, "same_distance_by_chance"] == pytest.approx(1 / 25, abs=0.02)
    assert table.loc[20, "same_distance_by_chance"] == pytest.approx(29 / 400, abs=0.02)
    assert table["n"].tolist() == [40, 40]


def test_a_random_map_on_ten_by_ten_is_right_within_a_cell_as_often_as_cells_say():
    """(3 · 10 - 2)² pairs of 10⁴ are neighbours or the same: 7.8%."""
    rng = np.random.default_rng(0)
    rows = [
        row_of(i, cells={"bed": rng.integers(10, size=(1, 2)).tolist()})
        for i in range(1500)
    ]
    shares = [np.divide(*hits(random_map(row), row["map"])) for row in rows]
    assert np.mean(shares) == pytest.approx(28**2 / 10**4, abs=0.02)


# ---------------------------------------------------------------- spatial words


def test_whole_words_are_counted_by_kind():
    text = (
        '<think><map>{"left":[[1,2]]}</map>The LEFT lamp is next  to the bed, '
        "front-left, 3 meters away; nothing nearly leftover, in front\nof me."
        "</think><answer>left</answer>"
    )
    assert dict(count_spatial_words(text)) == {
        "direction": 4,  # left, front, left, in front of
        "position": 1,
        "distance": 2,  # meters, away
    }
    assert not count_spatial_words("<map>left</map> <answer>near</answer> nothing")


def test_no_word_is_listed_twice():
    words = [word for group in spatial_words().values() for word in group]
    assert all(isinstance(word, str) and word == word.lower() for word in words)
    assert len(words) == len(set(words)) > 100


def test_words_beside_scores():
    wordy = run(RIGHT[:8] + ["B", "B"], "left of it, near")
    mute = run(WRONG)
    # One type only, more words where it is right: correlation 1.
    mixed = run(["2"] * 3, "near", rows=ROWS[:3]) + run(["9"] * 3, rows=ROWS[3:6])
    table = word_table({"wordy": wordy, "mute": mute, "mixed": mixed})
    assert table["words"].tolist() == [2, 0, 0.5]
    assert table["distance"].tolist() == [1, 0, 0.5]
    assert table["score"].tolist() == [0.8, 0, 0.5]
    assert table["rho"].isna().tolist() == [True, True, False]
    assert table.loc["mixed", "rho"] == pytest.approx(1)


def test_correlation_is_taken_within_types():
    """Across types words and scores go together; within each they go apart."""
    made = (
        run(["2"] * 2, "near near", rows=ROWS[:2])
        + run(["2", "9"], "near near near", rows=ROWS[2:4])
        + run(["A"], "", rows=ROWS[6:7])
        + run(["B"] * 3, "near", rows=ROWS[7:10])
    )
    rho = word_table({"run": made}).loc["run", "rho"]
    x = np.array([-0.5, -0.5, 0.5, 0.5, -0.75, 0.25, 0.25, 0.25])
    y = np.array([0.25, 0.25, 0.25, -0.75, 0.75, -0.25, -0.25, -0.25])
    assert rho == pytest.approx(np.corrcoef(x, y)[0, 1]) and rho < 0


# ---------------------------------------------------------------- studies


def test_every_comparison_of_a_study_with_its_verdict():
    path = PROJECT_ROOT / "papermill_runs" / "study.json"
    study = read_json(path)
    table = ablation_table({"map": study}, measures=("score",)).set_index("name")
    arms, pairs = list(study["arms"]), list(study["differences"])
    assert len(pairs) == len(arms) - 1 and "map minus no_map" in pairs
    assert list(table.index) == [*arms, *pairs]
    assert table["level"].tolist() == ["gain"] * len(arms) + ["difference"] * len(pairs)
    gain = study["differences"]["map minus no_map"]["score"]
    assert table.loc["map minus no_map", ["delta", "low", "high"]].tolist() == gain
    for line in table.itertuples():
        crosses = line.low <= 0 <= line.high
        assert (line.verdict == "not distinguishable") == crosses
    assert (table["seeds"] == 3).all() and (table["n"] == 630).all()
    empty = ablation_table({})
    assert empty.empty and list(empty.columns)[:2] == ["study", "level"]
