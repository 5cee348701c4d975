"""The figures in the README are those of the committed files."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from spacer_lib.questions.recipes import load_recipe

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HELD_OUT = ROOT / "papermill_runs" / "held_out"
KINDS = {
    "counting": "object_counting",
    "relative direction": "object_rel_direction",
    "relative distance": "object_rel_distance",
    "absolute distance": "object_abs_distance",
}
# Answers without the room's video; "strongest floor" is made of them, task by task.
FLOORS = (
    "majority",
    "constant",
    "category",
    "frequency",
    "random",
    "no video",
    "another room",
)
STRONGEST = "strongest floor"


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
TASKS = table_under("| | strongest floor | which | warm start | SG-RLVR | answered |")
SCORES = pd.read_csv(HELD_OUT / "scores.csv").set_index(["run", "level", "name"])
DELTAS = pd.read_csv(HELD_OUT / "deltas.csv").set_index(["run", "level", "name"])


@pytest.mark.parametrize("row", MACRO, ids=lambda row: row[0])
def test_macro_scores(row):
    run, score, change = row
    found = SCORES.loc[(run, "macro", "macro")]
    shown = [found.score, found.score_low, found.score_high]
    assert re.findall(r"[\d.]+", score) == [per_cent(value) for value in shown]
    if change:
        delta = DELTAS.loc[(run, "macro", "macro")]
        figures = [float(text) for text in re.findall(r"-?\d+\.\d", change)]
        expected = [delta.delta, delta.low, delta.high]
        assert figures == [round(100 * value, 1) for value in expected]
        assert change.endswith(delta.verdict)


def floors_of(kind):
    """The floors of a task: ``DataFrame`` of scores and intervals by run."""
    level = SCORES.xs(("kind", kind), level=("level", "name"))
    return level.loc[list(FLOORS)]


def answered(kind, run="SG-RLVR"):
    """Whether a run's interval lies above that of the task's strongest floor."""
    scores = SCORES.loc[(run, "kind", kind)]
    floors = floors_of(kind)
    return scores.score_low > floors.loc[floors.score.idxmax()].score_high


@pytest.mark.parametrize("row", TASKS, ids=lambda row: row[0])
def test_scores_by_task_beside_the_strongest_floor(row):
    name, floor, which, before, after, verdict = row
    floors = floors_of(KINDS[name])
    best = floors.loc[which]
    assert best.score == floors.score.max()
    shown = [best.score, best.score_low, best.score_high]
    assert re.findall(r"[\d.]+", floor) == [per_cent(value) for value in shown]
    for text, run in ((before, "warm start"), (after, "SG-RLVR")):
        scores = SCORES.loc[(run, "kind", KINDS[name])]
        shown = [scores.score, scores.score_low, scores.score_high]
        assert re.findall(r"[\d.]+", text) == [per_cent(value) for value in shown]
    assert verdict == ("yes" if answered(KINDS[name]) else "no")


def test_the_strongest_floor_is_composed_of_the_best_of_each_task():
    kinds = SCORES.xs("kind", level="level").index.get_level_values("name")
    assert {KINDS[row[0]] for row in TASKS} == set(kinds)
    assert MACRO[0][0] == STRONGEST
    best = [floors_of(kind).score.max() for kind in KINDS.values()]
    for kind, score in zip(KINDS.values(), best, strict=True):
        assert SCORES.loc[(STRONGEST, "kind", kind)].score == pytest.approx(score)
    macro = SCORES.loc[(STRONGEST, "macro", "macro")].score
    assert macro == pytest.approx(sum(best) / len(best))
    assert set(SCORES.index.get_level_values("run")) >= {*FLOORS, STRONGEST}


def test_the_named_floors_of_tasks_are_those_of_the_paired_table():
    """``floors.csv`` has the warm start minus each task's strongest floor."""
    paired = pd.read_csv(HELD_OUT / "floors.csv")
    paired = paired[(paired.run == "warm start") & (paired.level == "kind")]
    named = dict(zip(paired.name, paired.strongest, strict=True))
    assert named == {KINDS[row[0]]: row[2] for row in TASKS}


def test_the_tasks_that_are_claimed_are_clear_of_their_floors():
    """The sentence below the table follows from the intervals."""
    clear = [name for name, kind in KINDS.items() if answered(kind)]
    rest = [name for name in KINDS if name not in clear]
    words = " and ".join(clear), " and ".join(rest)
    sentence = f"answers {words[0]}. It is not above the floor on {words[1]}."
    assert sentence in " ".join(README.split())


# ---------------------------------------------------------------- blind scores

BLIND = json.loads((ROOT / "papermill_runs" / "blind.json").read_text(encoding="utf-8"))
RECIPES_README = (ROOT / "configs" / "qa" / "README.md").read_text(encoding="utf-8")
UNTOUCHED = {
    "object_counting": "counting",
    "room_size_estimation": "room size",
    "object_rel_direction_easy": "easy directions",
    "route_planning": "routes",
}


def hundredths(value):
    return f"{value:.2f}".removeprefix("0")


def blind(name, recipe="sr91k"):
    """Texts of a type: score before pruning, chance, score after it."""
    found = BLIND["recipes"][recipe][name]
    return [hundredths(found[key]) for key in ("before", "chance", "after")]


def test_blind_scores_are_those_of_the_file():
    size, hard = blind("object_size_estimation"), blind("object_rel_direction_hard")
    told = " ".join(RECIPES_README.split())
    assert f"(`make blind`, {BLIND['rooms']} synthetic rooms;" in told
    assert (
        "Of `sr91k`, object sizes score {} where chance is {}, and {} after pruning; "
        "hard directions {} where chance is {}, and {} after it."
    ).format(*size, *hard) in told
    assert (
        f"Of `sr91k` about {BLIND['rooms']} synthetic rooms it answers object sizes at "
        "{} (chance {}), and at {} after pruning (`make blind`)."
    ).format(*size) in " ".join(README.split())
    *most, last = UNTOUCHED.values()
    assert f"to leave out of {', '.join(most)} and {last}." in told
    rows = [
        (name, row)
        for types in BLIND["recipes"].values()
        for name, row in types.items()
    ]
    assert all(row["pruned"] <= row["questions"] / 2 for _, row in rows)
    assert not any(row["pruned"] for name, row in rows if name in UNTOUCHED)


@pytest.mark.parametrize("recipe", ["sr91k", "3q", "vsibench-8"])
def test_blind_scores_are_of_all_types_of_a_recipe(recipe):
    types = BLIND["recipes"][recipe]
    assert set(types) == set(load_recipe(recipe).tasks)
    assert all(row["questions"] >= 50 and row["rooms"] >= 50 for row in types.values())


# ---------------------------------------------------------------- from inside a room

TYPES = {
    "counting": "object_counting",
    "object size": "object_size_estimation",
    "room size": "room_size_estimation",
    "absolute distance": "object_abs_distance",
    "relative distance": "object_rel_distance",
    "direction, easy": "object_rel_direction_easy",
    "direction, medium": "object_rel_direction_medium",
    "direction, hard": "object_rel_direction_hard",
    "order of appearance": "obj_appearance_order",
}
TURN = pd.read_csv(ROOT / "papermill_runs" / "held_out_turn" / "scores.csv")
TURN = TURN.set_index(["run", "level", "name"])
TEXT = " ".join(README.split())
SEEN = table_under(
    "| question | strongest floor | which | warm start | frames shuffled | answered |"
)


def shown(line, measure="score"):
    """``45.6 [43.1, 48.0]`` in per cent."""
    ends = (per_cent(line[f"{measure}{end}"]) for end in ("", "_low", "_high"))
    return "{} [{}, {}]".format(*ends)


@pytest.mark.parametrize("row", SEEN, ids=lambda row: row[0])
def test_scores_from_inside_by_type_beside_the_strongest_floor(row):
    name, floor, which, own, shuffled, verdict = row
    key = ("question_type", TYPES[name])
    floors = TURN.xs(key, level=("level", "name")).loc[list(FLOORS)]
    best, scores = floors.loc[which], TURN.loc[("warm start", *key)]
    assert best.score == floors.score.max()
    assert [floor, own] == [shown(best), shown(scores)]
    assert shuffled == shown(TURN.loc[("frames shuffled", *key)])
    clear = scores.score_low > best.score_high
    assert verdict == ("yes" if clear else "no")


def test_types_that_are_not_answered_stand_below_the_table():
    unclear = [row[0] for row in SEEN if row[-1] == "no"]
    *first, last = unclear
    words = f"{', '.join(first)} and {last} are not answered".capitalize()
    assert words in TEXT
    given = shown(TURN.loc[("true map", "question_type", TYPES["relative distance"])])
    assert f"relative distance scores {given}." in TEXT


def test_every_type_stands_in_the_table_and_every_figure_in_the_text():
    assert [row[0] for row in SEEN] == list(TYPES)
    asked = TURN.loc[("warm start", "overall", "overall")]
    assert f"On {asked.n} held-out questions about {asked.spaces} rooms" in TEXT
    for run in ("warm start", "another room", "frames shuffled"):
        assert shown(TURN.loc[(run, "overall", "overall")], "hits") in TEXT
    for run in ("warm start", "true map", STRONGEST):
        assert shown(TURN.loc[(run, "macro", "macro")]) in TEXT
    path = ROOT / "papermill_runs" / "warmstart_inside.json"
    for seed, kept in json.loads(path.read_text(encoding="utf-8"))["seeds"].items():
        seen = kept["metrics"]["seen"]
        both = f"{per_cent(seen['score'])} and {per_cent(seen['hits'])}"
        assert f"seed {seed} {both}" in TEXT
