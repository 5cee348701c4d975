"""The figures in the README are those of the committed files."""

import json
from pathlib import Path
from statistics import mean

import pandas as pd
import pytest

from spacer_lib.evaluation.statistics import verdict
from spacer_lib.questions.recipes import load_recipe

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = " ".join(README.split())
RUNS = ROOT / "papermill_runs"
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
ARMS = {
    "SG-RLVR": "map",
    "map paid as published": "paper_map",
    "no map reward": "no_map",
    "random rewards": "random",
    "SFT": "sft",
}


def table_under(header):
    """Rows of the README's table that starts with a header line, as lists of cells."""
    lines = README.split(header)[1].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def read(name):
    return json.loads((RUNS / name).read_text(encoding="utf-8"))


def per_cent(value):
    return f"{100 * value:.1f}"


def points(values):
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * value for value in values))


def shown(line, measure="score"):
    """``45.6 [43.1, 48.0]`` in per cent."""
    ends = (per_cent(line[f"{measure}{end}"]) for end in ("", "_low", "_high"))
    return "{} [{}, {}]".format(*ends)


SCORES = pd.read_csv(RUNS / "held_out" / "scores.csv").set_index(
    ["run", "level", "name"]
)
SEEN = table_under(
    "| question | strongest floor | which | warm start | SG-RLVR | frames shuffled | "
    "answered |"
)
TRAINED = table_under(
    "| | camera held up: score | against the warm start | map hits | "
    "demonstrated camera: score | against the warm start |"
)
STUDY = read("study.json")
SHOWN = STUDY["views"]["turn"]

# ---------------------------------------------------------------- types of questions


@pytest.mark.parametrize("row", SEEN, ids=lambda row: row[0])
def test_scores_by_type_beside_the_strongest_floor(row):
    name, floor, which, own, trained, shuffled, answered = row
    key = ("question_type", TYPES[name])
    floors = SCORES.xs(key, level=("level", "name")).loc[list(FLOORS)]
    best, scores = floors.loc[which], SCORES.loc[("warm start", *key)]
    assert best.score == floors.score.max()
    assert [floor, own] == [shown(best), shown(scores)]
    assert trained == shown(SCORES.loc[("SG-RLVR", *key)])
    assert shuffled == shown(SCORES.loc[("frames shuffled", *key)])
    clear = scores.score_low > best.score_high
    assert answered == ("yes" if clear else "no")


def test_types_that_are_not_answered_stand_below_the_table():
    *first, last = (row[0] for row in SEEN if row[-1] == "no")
    words = f"{', '.join(first)} and {last} are not answered".capitalize()
    assert words in TEXT
    given = shown(SCORES.loc[("true map", "question_type", TYPES["relative distance"])])
    assert f"relative distance scores {given}." in TEXT


def test_every_type_stands_in_the_table_and_every_figure_in_the_text():
    assert [row[0] for row in SEEN] == list(TYPES)
    asked = SCORES.loc[("warm start", "overall", "overall")]
    assert f"On {asked.n} held-out questions about {asked.spaces} rooms" in TEXT
    for run in ("warm start", "another room", "frames shuffled"):
        assert shown(SCORES.loc[(run, "overall", "overall")], "hits") in TEXT
    for run in ("warm start", "true map", STRONGEST):
        assert shown(SCORES.loc[(run, "macro", "macro")]) in TEXT
    for seed, kept in read("warmstart.json")["seeds"].items():
        seen = kept["metrics"]["seen"]
        both = f"{per_cent(seen['score'])} and {per_cent(seen['hits'])}"
        assert f"seed {seed} {both}" in TEXT


def test_the_strongest_floor_is_composed_of_the_best_of_each_task():
    tasks = SCORES.xs("kind", level="level")
    best = []
    for kind in set(tasks.index.get_level_values("name")):
        floors = tasks.xs(kind, level="name").loc[list(FLOORS)]
        best.append(floors.score.max())
        assert tasks.loc[(STRONGEST, kind)].score == pytest.approx(best[-1])
    macro = SCORES.loc[(STRONGEST, "macro", "macro")].score
    assert macro == pytest.approx(mean(best))


def test_the_named_floors_of_tasks_are_those_of_the_paired_table():
    """``floors.csv`` has the warm start minus each task's strongest floor."""
    paired = pd.read_csv(RUNS / "held_out" / "floors.csv")
    paired = paired[(paired.run == "warm start") & (paired.level == "kind")]
    named = dict(zip(paired.name, paired.strongest, strict=True))
    types = {TYPES[row[0]]: row[2] for row in SEEN}
    shared = types.keys() & named.keys()  # directions are one task of three types
    assert named.keys() - shared == {"object_rel_direction"}
    assert all(named[name] == types[name] for name in shared)


# ---------------------------------------------------------------- arms of the study


def after(study, arm, measure="score"):
    return mean(run["after"][measure] for run in study["runs"] if run["arm"] == arm)


def change(study, arm):
    """``+4.5 [1.1, 8.0] up``: percentage points and the verdict."""
    value, low, high = study["arms"][arm]["score"]
    return f"{'+' * (value >= 0)}{points((value, low, high))} {verdict(low, high)}"


@pytest.mark.parametrize("row", TRAINED[2:], ids=lambda row: row[0])
def test_arms_are_those_of_the_study(row):
    arm = ARMS[row[0]]
    assert row[1:] == [
        per_cent(after(STUDY, arm)),
        change(STUDY, arm),
        per_cent(after(STUDY, arm, "hits")),
        per_cent(after(SHOWN, arm)),
        change(SHOWN, arm),
    ]


def test_the_sentences_below_the_arms_are_those_of_the_study():
    gap = STUDY["differences"]["map minus no_map"]
    lost = {arm: -SHOWN["arms"][arm]["hits"][0] for arm in ("map", "sft")}
    size = STUDY["arms"]["map"]["per_task"]["room_size_estimation"]
    assert (
        f"The map reward raises map hits by {points(gap['hits'])} points over none "
        f"and the score by {points(gap['score'])}, {verdict(*gap['score'][1:])}."
    ) in TEXT
    assert (
        f"map hits fall by {per_cent(lost['map'])} points under SG-RLVR and by "
        f"{per_cent(lost['sft'])} under SFT"
    ) in TEXT
    assert f"room sizes get worse by {per_cent(-size[0])} points" in TEXT
    assert size[2] < 0


def test_arms_stand_beside_their_start_and_their_strongest_floor():
    floors, start, *rest = TRAINED
    assert [row[0] for row in rest] == list(ARMS)
    assert {run["arm"] for run in STUDY["runs"]} == set(ARMS.values())
    both = STUDY, SHOWN
    lowest = [per_cent(study["floors"]["overall"]["score"]) for study in both]
    assert floors == [STRONGEST, lowest[0], "", "", lowest[1], ""]
    before, seen = (study["runs"][0]["before"] for study in both)
    assert start == [
        "warm start",
        per_cent(before["score"]),
        "",
        per_cent(before["hits"]),
        per_cent(seen["score"]),
        "",
    ]
    settings = STUDY["settings"]
    assert f"Below are {settings['questions']} questions on that camera" in TEXT
    assert settings["seeds"] == [0, 1, 2] and "three seeds" in TEXT


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
