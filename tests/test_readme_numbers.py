"""The figures in the README are those of the committed files."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HELD_OUT = ROOT / "papermill_runs" / "held_out"
RUNS = {"frequency floor": "frequency"}  # in the README: in the file
KINDS = {
    "counting": "object_counting",
    "relative direction": "object_rel_direction",
    "relative distance": "object_rel_distance",
    "absolute distance": "object_abs_distance",
}
FLOORS = ("majority", "frequency", "random", "no video", "another room")


def table_under(header):
    """Rows of the README's table that starts with a header line, as lists of cells."""
    lines = README.split(header)[1].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def per_cent(value):
    return f"{100 * value:.1f}"


MACRO = table_under("| | macro score | against the warm start |")
TASKS = table_under("| | strongest floor | warm start | SG-RLVR |")
SCORES = pd.read_csv(HELD_OUT / "scores.csv").set_index(["run", "level", "name"])
DELTAS = pd.read_csv(HELD_OUT / "deltas.csv").set_index(["run", "level", "name"])


@pytest.mark.parametrize("row", MACRO, ids=lambda row: row[0])
def test_macro_scores(row):
    name, score, change = row
    run = RUNS.get(name, name)
    found = SCORES.loc[(run, "macro", "macro")]
    shown = [found.score, found.score_low, found.score_high]
    assert re.findall(r"[\d.]+", score) == [per_cent(value) for value in shown]
    if change:
        delta = DELTAS.loc[(run, "macro", "macro")]
        figures = [float(text) for text in re.findall(r"-?\d+\.\d", change)]
        expected = [delta.delta, delta.low, delta.high]
        assert figures == [round(100 * value, 1) for value in expected]
        assert change.endswith(delta.verdict)


@pytest.mark.parametrize("row", TASKS, ids=lambda row: row[0])
def test_scores_by_task_beside_the_strongest_floor(row):
    name, floor, before, after = row
    level = SCORES.xs(("kind", KINDS[name]), level=("level", "name")).score
    strongest = max(level[run] for run in FLOORS if run in level.index)
    assert floor == per_cent(strongest)
    assert before == per_cent(level["warm start"])
    assert after == per_cent(level["SG-RLVR"])


def test_the_first_row_is_the_strongest_floor_and_all_tasks_are_shown():
    macro = SCORES.xs(("macro", "macro"), level=("level", "name")).score
    floors = {run: macro[run] for run in FLOORS}
    assert RUNS[MACRO[0][0]] == max(floors, key=floors.get)
    kinds = SCORES.xs("kind", level="level").index.get_level_values("name")
    assert {KINDS[row[0]] for row in TASKS} == set(kinds)


def test_the_tasks_that_are_claimed_are_clear_of_their_floors():
    """``So the tiny model answers counting and direction``, by the intervals."""
    level = SCORES.xs("kind", level="level")
    clear = set()
    for kind in KINDS.values():
        table = level.xs(kind, level="name")
        highest = max(table.loc[run].score_high for run in FLOORS if run in table.index)
        if table.loc["SG-RLVR"].score_low > highest:
            clear.add(kind)
    assert clear == {"object_counting", "object_rel_direction"}
    assert "answers counting and direction" in README
